"""Makes a model from another one, or from files that were uploaded."""

from __future__ import annotations

from rkllama_protocol.errors import InvalidJobError, ModelNotFoundError
from rkllama_protocol.names import Digest, ModelName

from rkllama_store import facts, gguf_reading
from rkllama_store.announcing import Changes
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.draft import Draft
from rkllama_store.library import Library, messages_json, parameters_json
from rkllama_store.manifests import Layer, MediaType, Stored
from rkllama_store.puller import Puller
from rkllama_store.recipe import PROJECTOR_ENDING, Recipe, blob_digest, merged, weights_file
from rkllama_store.records import Emit, Record
from rkllama_store.threads import in_thread


class Creator:
    """Works on recipes."""

    def __init__(self, library: Library, blobs: Blobs, puller: Puller, *, changes: Changes) -> None:
        self._library = library
        self._blobs = blobs
        self._puller = puller
        self._changes = changes

    async def create(self, recipe: Recipe, emit: Emit) -> None:
        """Make the model.

        Raises:
            InvalidJobError, InvalidModelError: Its files do not make a model.
            UpstreamError: The base is not here, and cannot be pulled.
            StorageError: The disk is full or refuses.
        """

        def placed(layer: Layer, *, new: bool) -> None:
            verb = "creating new layer" if new else "using existing layer"
            emit(Record(status=f"{verb} {layer.digest}"))

        with self._blobs.holding() as hold:
            draft = Draft(self._library, self._blobs, hold, placed=placed)
            if recipe.base is not None:
                await draft.begin_with(await self._base(recipe.base, emit))
            else:
                await self._take_files(draft, recipe, hold, emit)
            await self._override(draft, recipe)
            manifest = await draft.seal()
            emit(Record(status="writing manifest"))
            kept = await in_thread(lambda: self._library.publish(recipe.name, manifest))
        await self._changes.created(kept)

    async def _base(self, name: ModelName, emit: Emit) -> Stored:
        try:
            return await in_thread(lambda: self._library.stored(name))
        except ModelNotFoundError:
            await self._puller.pull(name, emit)
            return await in_thread(lambda: self._library.stored(name))

    async def _take_files(self, draft: Draft, recipe: Recipe, hold: Hold, emit: Emit) -> None:
        is_rkllm = any(name.endswith(".rkllm") for name in recipe.files)
        emit(Record(status="parsing RKLLM" if is_rkllm else "parsing GGUF"))
        digests = {name: blob_digest(text) for name, text in recipe.files.items()}
        for digest in digests.values():
            hold.add(digest)
        weights = weights_file(digests)
        sizes = {name: await self._size(digest) for name, digest in digests.items()}
        report: facts.Report | None = None
        if weights.endswith(".gguf"):
            report = await gguf_reading.report(self._blobs.path(digests[weights]))
        for name, digest in digests.items():
            draft.take(_kind(name, weights), digest, size=sizes[name], title=name)
        if report is not None:
            await draft.complete(report)
        else:
            config = draft.titled(facts.CONFIG_FILE)
            data = await draft.read(config) if config else None
            await draft.describe(*facts.of_rkllm(data))

    async def _size(self, digest: Digest) -> int:
        if (size := await in_thread(lambda: self._blobs.size(digest))) is None:
            raise InvalidJobError(f"open {digest.file_name}: no such file or directory")
        return size

    async def _override(self, draft: Draft, recipe: Recipe) -> None:
        if recipe.template:
            draft.drop(MediaType.TEMPLATE)
            await draft.add(MediaType.TEMPLATE, recipe.template.encode())
        if recipe.system:
            draft.drop(MediaType.SYSTEM)
            await draft.add(MediaType.SYSTEM, recipe.system.encode())
        for text in recipe.license:
            await draft.add(MediaType.LICENSE, text.encode())
        if recipe.parameters:
            before = await draft.parameters()
            draft.drop(MediaType.PARAMETERS)
            data = parameters_json(merged(before, recipe.parameters))
            await draft.add(MediaType.PARAMETERS, data)
        if recipe.messages:
            draft.drop(MediaType.MESSAGES)
            await draft.add(MediaType.MESSAGES, messages_json(recipe.messages))


def _kind(name: str, weights: str) -> MediaType:
    if name == weights:
        return MediaType.WEIGHTS
    return MediaType.PROJECTOR if name.endswith(PROJECTOR_ENDING) else MediaType.FILE
