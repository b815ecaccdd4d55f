"""A model in the making: layers are put in one by one, until it is sealed and can be published.

Whatever a draft takes in is held, so that no collector removes it before the manifest is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from rkllama_protocol.errors import InvalidJobError, InvalidModelError
from rkllama_protocol.messages import ModelDetails
from rkllama_protocol.names import Digest
from rkllama_transfer.threads import in_thread

from rkllama_store import chat_templates, facts
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.library import Library
from rkllama_store.manifests import LIMIT_BYTES, TITLE, Config, Layer, Manifest, MediaType, Stored

TEXT_BYTES = 512 * 1024
"""What a model's texts may have together: all of it goes into each job, as one message."""
TOKENIZER_BYTES = 128 * 2**20
NOWHERE: Mapping[str, str] = MappingProxyType({})
TEXTS = frozenset(
    {
        MediaType.TEMPLATE,
        MediaType.SYSTEM,
        MediaType.PARAMETERS,
        MediaType.MESSAGES,
        MediaType.LICENSE,
    }
)


class Placed(Protocol):
    """Told of every layer that is put in."""

    def __call__(self, layer: Layer, *, new: bool) -> None:
        """`new` says whether its blob was not there before."""


class Draft:
    """Layers, and the details they stand for."""

    def __init__(self, library: Library, blobs: Blobs, hold: Hold, *, placed: Placed) -> None:
        self._library = library
        self._blobs = blobs
        self._hold = hold
        self._placed = placed
        self._layers: list[Layer] = []
        self._details = ModelDetails()
        self._pooling = False
        self.requires: str | None = None
        """The level of Ollama's API that the model needs."""

    @property
    def details(self) -> ModelDetails:
        """What is known of the weights."""
        return self._details

    async def know(self, base: Stored) -> None:
        """Learn what another model is, and hold its layers.

        Raises:
            InvalidModelError: It is not whole.
        """
        for digest in base.manifest.digests():
            self._hold.add(digest)
        await in_thread(lambda: self._library.check_whole(base.manifest))
        config = await in_thread(lambda: self._library.config(base.manifest))
        recorded = await in_thread(lambda: self._library.recorded(base.manifest))
        self._details = ModelDetails(
            format=config.model_format,
            family=config.model_family,
            families=config.model_families,
            parameter_size=config.model_type,
            quantization_level=config.file_type,
            context_length=config.context_length,
            embedding_length=config.embedding_length,
        )
        self._pooling = recorded.pooling
        self.requires = config.requires

    def begin_with(self, base: Stored) -> None:
        """Take every layer of a model that is known."""
        for layer in base.manifest.layers:
            source = base.name.display if layer.media_type == MediaType.WEIGHTS else None
            self._place(layer.model_copy(update={"source": source}), new=False)

    def take(
        self,
        kind: MediaType,
        digest: Digest,
        *,
        size: int,
        title: str = "",
        origin: Mapping[str, str] = NOWHERE,
    ) -> None:
        """Put in a blob that is in the store, and held, already; `origin` as `Layer.origin`."""
        annotations = ({TITLE: title} if title else {}) | dict(origin)
        layer = Layer(
            media_type=kind, digest=str(digest), size=size, annotations=annotations or None
        )
        self._place(layer, new=False)

    async def add(self, kind: MediaType, data: bytes, *, title: str = "") -> None:
        """Put in small bytes; a blob that is there already is used again.

        Raises:
            StorageError: The disk is full or refuses.
        """
        layer, new = await self._kept(kind, data, title)
        if layer not in self._layers:
            self._place(layer, new=new)

    def drop(self, kind: MediaType) -> None:
        """Leave out what has been put in of this kind."""
        self._layers = [layer for layer in self._layers if layer.media_type != kind]

    def of(self, kind: MediaType) -> list[Layer]:
        """What has been put in of this kind."""
        return [layer for layer in self._layers if layer.media_type == kind]

    def titled(self, title: str) -> Layer | None:
        """The file of this name, or None."""
        return next((layer for layer in self._layers if layer.title == title), None)

    async def read(self, layer: Layer, *, limit_bytes: int = LIMIT_BYTES) -> bytes:
        """The bytes of a small layer; errors as `Blobs.read`."""
        digest = Digest.parse(layer.digest)
        return await in_thread(lambda: self._blobs.read(digest, limit_bytes=limit_bytes))

    async def parameters(self) -> dict[str, Any]:
        """The parameters put in so far.

        Raises:
            InvalidModelError: They are damaged.
        """
        layers = self.of(MediaType.PARAMETERS)
        found: dict[str, Any] = {}
        for one in await in_thread(lambda: [self._library.parameters(layer) for layer in layers]):
            found |= one
        return found

    async def describe(self, details: ModelDetails, recorded: facts.Recorded) -> None:
        """Say what the weights are; kept as a layer of its own."""
        self._details = details
        self._pooling = recorded.pooling
        await self.add(MediaType.FACTS, recorded.model_dump_json().encode())

    async def complete(self, report: facts.Report) -> None:
        """Add what a GGUF file brings along, except what was put in as a file.

        Raises:
            InvalidModelError: There is no tokenizer, or it is a part of several.
        """
        if report.parts > 1:
            raise InvalidModelError(
                f"the GGUF file is one of {report.parts} parts: join them with llama.cpp's "
                "`llama-gguf-split --merge` first"
            )
        if self.titled(facts.TOKENIZER_FILE) is None and report.no_tokenizer:
            raise InvalidModelError(report.no_tokenizer)
        templated = bool(await self._template_in_files())
        for title, text in report.files.items():
            if self.titled(title) is None:
                await self.add(MediaType.FILE, text.encode(), title=title)
        if report.template and not templated and not await self._template_in_files():
            await self.add(MediaType.FILE, report.template.encode(), title=facts.TEMPLATE_FILE)
        await self.describe(report.details, report.recorded)

    async def seal(self) -> Manifest:
        """Put in the config, which says what all of it can do; the manifest to publish.

        Raises:
            InvalidJobError: The texts are too large together.
            InvalidModelError: A file that has the chat template is damaged.
            StorageError: The disk is full or refuses.
        """
        _check_texts(self._layers)
        template = await self._template()
        config = Config(
            model_format=self._details.format,
            model_family=self._details.family,
            model_families=self._details.families,
            model_type=self._details.parameter_size,
            file_type=self._details.quantization_level,
            context_length=self._details.context_length,
            embedding_length=self._details.embedding_length,
            capabilities=facts.capabilities(
                template, pooling=self._pools, added_tokens=await self._added_tokens()
            ),
            requires=self.requires,
        )
        data = config.model_dump_json(exclude_none=True).encode()
        layer, new = await self._kept(MediaType.CONFIG, data, "")
        self._placed(layer, new=new)
        return Manifest(config=layer, layers=tuple(self._layers))

    @property
    def _pools(self) -> bool:
        """Whether the model makes vectors, by its weights or by the file that says how."""
        return self._pooling or self.titled(facts.POOLING_FILE) is not None

    async def _kept(self, kind: MediaType, data: bytes, title: str) -> tuple[Layer, bool]:
        digest, new = await in_thread(lambda: self._blobs.put(data, hold=self._hold))
        annotations = {TITLE: title} if title else None
        layer = Layer(media_type=kind, digest=str(digest), size=len(data), annotations=annotations)
        return layer, new

    def _place(self, layer: Layer, *, new: bool) -> None:
        self._layers.append(layer)
        self._placed(layer, new=new)

    async def _added_tokens(self) -> frozenset[str]:
        if (layer := self.titled(facts.TOKENIZER_FILE)) is None:
            return frozenset()
        data = await self.read(layer, limit_bytes=TOKENIZER_BYTES)
        return await in_thread(lambda: facts.added_tokens(data))

    async def _template(self) -> str:
        """The chat template that an engine will render."""
        for layer in self.of(MediaType.TEMPLATE):
            return (await self.read(layer)).decode(errors="replace")
        return await self._template_in_files()

    async def _template_in_files(self) -> str:
        return await in_thread(lambda: chat_templates.in_files(self._layers, self._blobs))


def _check_texts(layers: Iterable[Layer]) -> None:
    size = sum(layer.size for layer in layers if layer.media_type in TEXTS)
    if size > TEXT_BYTES:
        raise InvalidJobError(
            f"template, system, parameters, messages and licenses have {size} bytes together; "
            f"at most {TEXT_BYTES} are possible"
        )
