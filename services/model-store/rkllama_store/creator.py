"""Makes a model from another one, or from files that were uploaded."""

from __future__ import annotations

from rkllama_protocol.errors import ModelNotFoundError
from rkllama_protocol.names import ModelName

from rkllama_store.announcing import Changes
from rkllama_store.assembling import override, take_files
from rkllama_store.blobs import Blobs
from rkllama_store.draft import Draft
from rkllama_store.library import Library
from rkllama_store.manifests import Layer, Stored
from rkllama_store.puller import Puller
from rkllama_store.recipe import Recipe
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
            UnsupportedError: It would have to be quantised.
            UpstreamError: The base is not here, and cannot be pulled.
            StorageError: The disk is full or refuses.
        """

        def placed(layer: Layer, *, new: bool) -> None:
            verb = "creating new layer" if new else "using existing layer"
            emit(Record(status=f"{verb} {layer.digest}"))

        try:
            with self._blobs.holding() as hold:
                draft = Draft(self._library, self._blobs, hold, placed=placed)
                if recipe.base is not None:
                    await draft.begin_with(await self._base(recipe.base, emit))
                if recipe.files or recipe.adapter:
                    emit(Record(status=f"parsing {_format(recipe)}"))
                if recipe.files:
                    await take_files(draft, self._blobs, hold, recipe.files)
                await override(draft, self._blobs, hold, recipe)
                manifest = await draft.seal()
                emit(Record(status="writing manifest"))
                kept = await in_thread(lambda: self._library.publish(recipe.name, manifest))
        finally:
            await in_thread(self._library.release)
        await self._changes.created(kept)

    async def _base(self, name: ModelName, emit: Emit) -> Stored:
        try:
            return await in_thread(lambda: self._library.stored(name))
        except ModelNotFoundError:
            await self._puller.pull(name, emit)
            return await in_thread(lambda: self._library.stored(name))


def _format(recipe: Recipe) -> str:
    names = [*recipe.files, *(recipe.adapter or ())[:1]]
    return "RKLLM" if any(name.endswith(".rkllm") for name in names) else "GGUF"
