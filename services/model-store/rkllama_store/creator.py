"""Makes a model from another one, or from files that were uploaded."""

from __future__ import annotations

from rkllama_protocol.errors import ModelNotFoundError
from rkllama_protocol.messages import CreateRequest
from rkllama_protocol.names import Digest, ModelName
from rkllama_transfer.threads import in_thread

from rkllama_store import file_types
from rkllama_store.announcing import Changes
from rkllama_store.assembling import override, take_files
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.draft import Draft
from rkllama_store.file_types import GGUF_MAGIC
from rkllama_store.hub_models import HubModels
from rkllama_store.library import Library
from rkllama_store.manifests import Layer, Stored
from rkllama_store.puller import Puller
from rkllama_store.recipe import Recipe, check_quantize
from rkllama_store.records import Emit, Record


class Creator:
    """Works on recipes."""

    def __init__(
        self,
        library: Library,
        blobs: Blobs,
        puller: Puller,
        hub_models: HubModels,
        *,
        changes: Changes,
    ) -> None:
        self._library = library
        self._blobs = blobs
        self._puller = puller
        self._hub_models = hub_models
        self._changes = changes

    async def typed(self, request: CreateRequest) -> CreateRequest:
        """The request with files that are named as what they are.

        Raises:
            InvalidJobError: Two of them would have one name.
        """

        def head(digest: Digest) -> bytes:
            return self._blobs.head(digest, len(GGUF_MAGIC))

        def named() -> dict[str, dict[str, str]]:
            fields = {"files": request.files, "adapters": request.adapters}
            return {field: file_types.named(files, head) for field, files in fields.items()}

        return request.model_copy(update=await in_thread(named))

    async def create(self, recipe: Recipe, emit: Emit) -> None:
        """Make the model.

        Raises:
            InvalidJobError, InvalidModelError: Its files do not make a model.
            UnsupportedError: It would have to be quantised.
            UpstreamError: The base, or the tokenizer, is not here, and cannot be fetched.
            StorageError: The disk is full or refuses.
        """

        def placed(layer: Layer, *, new: bool) -> None:
            verb = "creating new layer" if new else "using existing layer"
            emit(Record(status=f"{verb} {layer.digest}"))

        try:
            with self._blobs.holding() as hold:
                draft = Draft(self._library, self._blobs, hold, placed=placed)
                if recipe.base is not None:
                    base = await self._base(recipe.base, emit)
                    await draft.know(base)
                    check_quantize(recipe.quantize, draft.details)
                    draft.begin_with(base)
                if recipe.files or recipe.adapter:
                    emit(Record(status=f"parsing {_format(recipe)}"))
                if recipe.files:
                    await self._take_files(recipe, draft, hold, emit)
                    check_quantize(recipe.quantize, draft.details)
                await override(draft, self._blobs, hold, recipe)
                manifest = await draft.seal()
                emit(Record(status="writing manifest"))
                kept = await in_thread(lambda: self._library.publish(recipe.name, manifest))
        finally:
            await in_thread(self._library.release)
        await self._changes.created(kept)

    async def _take_files(self, recipe: Recipe, draft: Draft, hold: Hold, emit: Emit) -> None:
        repo = recipe.tokenizer_repo

        async def add_tokenizer() -> None:
            await self._hub_models.add_small_files(repo, draft, hold, emit)

        await take_files(
            draft, self._blobs, hold, recipe.files, add_tokenizer=add_tokenizer if repo else None
        )

    async def _base(self, name: ModelName, emit: Emit) -> Stored:
        try:
            return await in_thread(lambda: self._library.stored(name))
        except ModelNotFoundError:
            await self._puller.pull(name, emit)
            return await in_thread(lambda: self._library.stored(name))


def _format(recipe: Recipe) -> str:
    names = [*recipe.files, *(recipe.adapter or ())[:1]]
    return "RKLLM" if any(name.endswith(".rkllm") for name in names) else "GGUF"
