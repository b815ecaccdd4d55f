"""The models of this store: what names mean, and the changes to that, one at a time.

Every method blocks on the disk; any thread may call it. A manifest is published last and removed
first, so a name either means a whole model or nothing.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from rkllama_protocol.errors import InvalidModelError, ModelNotFoundError, StorageError
from rkllama_protocol.messages import (
    ChatMessage,
    Descriptor,
    ModelDetails,
    ResolvedModel,
    ShowReply,
)
from rkllama_protocol.names import Digest, ModelName

from rkllama_store import chat_templates, facts
from rkllama_store.blobs import Blobs
from rkllama_store.collector import garbage, referenced
from rkllama_store.manifests import (
    LIMIT_BYTES,
    REVISION,
    SOURCE,
    Config,
    Layer,
    Manifest,
    Manifests,
    MediaType,
    Stored,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
TEMPLATE_CHARS = 128 * 1024
"""A longer chat template of a model's files is not shown: it would fill the bus's message."""

_MESSAGES = TypeAdapter(tuple[ChatMessage, ...])
_PARAMETERS = TypeAdapter(dict[str, Any])


class Library:
    """Names, manifests and the blobs they need."""

    def __init__(self, blobs: Blobs, manifests: Manifests) -> None:
        self._blobs = blobs
        self._manifests = manifests
        # One change at a time: a blob is collected only while no manifest is being published.
        self._changing = threading.Lock()
        # Blobs nobody needs that could not go, because a create, pull or verify had them.
        self._postponed: set[Digest] = set()

    def stored(self, name: ModelName) -> Stored:
        """The manifest of `name`, in whatever case it is spelt.

        Raises:
            ModelNotFoundError: There is none.
            InvalidModelError: It is damaged.
        """
        return self._read(self._kept(name))

    def resolve(self, name: ModelName) -> ResolvedModel:
        """What `name` means; errors as `stored`, and `InvalidModelError` where files are missing."""
        return self._consistently(name, self._resolved)

    def tags(self) -> tuple[ResolvedModel, ...]:
        """Every model that is whole, newest first, without what a list does not show: long texts, layers."""
        models: list[tuple[float, ResolvedModel]] = []
        for name in self._manifests.names():
            try:
                stored = self._read(name)
                model = self._resolved(stored, listing=True)
            except (InvalidModelError, ModelNotFoundError) as error:
                log.warning("model skipped", extra={"model": name.display, "reason": str(error)})
            else:
                models.append((stored.modified_s, model))
        models.sort(key=lambda entry: -int(entry[0]))
        return tuple(model for _, model in models)

    def show(self, name: ModelName) -> ShowReply:
        """Everything about one model; errors as `resolve`."""
        return self._consistently(name, self._shown)

    def recorded(self, manifest: Manifest) -> facts.Recorded:
        """The facts in a manifest's own layer; empty without one.

        Raises:
            InvalidModelError: It is damaged.
        """
        for layer in manifest.layers:
            if layer.media_type == MediaType.FACTS:
                return facts.recorded(self._bytes(layer))
        return facts.Recorded()

    def config(self, manifest: Manifest) -> Config:
        """A manifest's config.

        Raises:
            InvalidModelError: It is damaged.
        """
        return self._parsed(manifest.config, Config.model_validate_json)

    def parameters(self, layer: Layer) -> dict[str, Any]:
        """What a layer of parameters holds; errors as `config`."""
        return self._parsed(layer, _PARAMETERS.validate_json)

    def check_whole(self, manifest: Manifest) -> None:
        """Refuse a manifest that needs a blob which is not there, as far as a look at files tells.

        Raises:
            InvalidModelError: One is missing, of another size, or changed since it was stored.
        """
        for layer in (manifest.config, *manifest.layers):
            if fault := self._blobs.fault(Digest.parse(layer.digest), layer.size):
                raise InvalidModelError(
                    f"blob {layer.digest} ({layer.label}) {fault}: pull or create the model again"
                )

    def publish(self, name: ModelName, manifest: Manifest) -> ModelName:
        """Let `name` mean `manifest`, whose blobs the caller holds; the name as it is kept.

        What only the manifest before it needed is removed.

        Raises:
            StorageError: The disk is full or refuses.
        """
        with self._changing:
            before = self._digests(name)
            self._blobs.stamp(manifest.digests())
            kept = self._manifests.write(name, manifest)
            self._blobs.settle(manifest.digests())
            self._collect(before)
        log.info("model created", extra={"model": kept.display})
        return kept

    def renew(self, manifest: Manifest) -> None:
        """Blobs of a manifest that is here may have come in anew: from now on changes to them are noticed.

        Raises:
            StorageError: The disk is full or refuses.
        """
        with self._changing:
            self._blobs.stamp(manifest.digests())
            self._blobs.settle(manifest.digests())

    def copy(self, source: ModelName, destination: ModelName) -> ModelName | None:
        """Let `destination` mean what `source` means; the name as it is kept, None for itself.

        Raises:
            ModelNotFoundError: There is no `source`.
            StorageError: The disk is full or refuses.
        """
        manifest = self.stored(source).manifest
        if source.key == destination.key:
            return None
        with self._blobs.holding() as hold:
            for digest in manifest.digests():
                hold.add(digest)
            # Asked again, now that nothing of it can go away.
            self.check_whole(manifest)
            return self.publish(destination, manifest)

    def delete(self, name: ModelName) -> ModelName:
        """Take `name` away, and every blob that nobody else needs; the name as it was kept.

        Raises:
            ModelNotFoundError: There is no such name.
            StorageError: The disk refuses.
        """
        with self._changing:
            kept = self._kept(name)
            before = self._digests(kept)
            self._manifests.remove(kept)
            self._collect(before)
        log.info("model deleted", extra={"model": kept.display})
        return kept

    def collect(self) -> None:
        """Remove what nobody needs and nobody waits for; errors as `delete`."""
        with self._changing:
            self._collect(set())

    def release(self) -> None:
        """To be called after a hold has ended: what it kept from going goes now."""
        with self._changing:
            if not self._postponed:
                return
            try:
                self._collect(set())
            except StorageError as error:
                log.warning("blobs not collected", extra={"reason": error.message})

    def discard(self, digests: set[Digest]) -> None:
        """Remove those of the blobs that nobody needs, new as they may be; errors as `delete`."""
        with self._changing:
            self._collect(digests)

    def names(self) -> list[ModelName]:
        """Every name, those of damaged models included."""
        return self._manifests.names()

    def size(self) -> tuple[int, int]:
        """How many names there are, and the bytes of all blobs."""
        return len(self._manifests.names()), self._blobs.total_bytes()

    def _consistently(self, name: ModelName, look: Callable[[Stored], T]) -> T:
        stored = self.stored(name)
        try:
            return look(stored)
        except InvalidModelError:
            # Perhaps a change took the blobs away after the manifest was read.
            again = self.stored(name)
            if again.digest == stored.digest:
                raise
            return look(again)

    def _shown(self, stored: Stored) -> ShowReply:
        recorded = self.recorded(stored.manifest)
        model = self._resolved(stored)
        template = chat_templates.in_files(stored.manifest.layers, self._blobs)
        return ShowReply(
            model=model,
            # All of it is one message.
            template="" if model.template or len(template) > TEMPLATE_CHARS else template,
            model_info=recorded.model_info | _origin(stored.manifest),
            tensors=recorded.tensors,
        )

    def _kept(self, name: ModelName) -> ModelName:
        if (kept := self._manifests.find(name)) is None:
            raise ModelNotFoundError(f"model '{name.display}' not found")
        return kept

    def _read(self, kept: ModelName) -> Stored:
        try:
            return self._manifests.read(kept)
        except InvalidModelError as error:
            raise InvalidModelError(f"model '{kept.display}' is damaged: {error}") from error

    def _digests(self, name: ModelName) -> set[Digest]:
        try:
            return self.stored(name).manifest.digests()
        except (ModelNotFoundError, InvalidModelError):
            return set()

    def _collect(self, dropped: set[Digest]) -> None:
        try:
            needed = referenced(
                self._manifests.read(name).manifest.digests() for name in self._manifests.names()
            )
        except InvalidModelError as error:
            # It may need anything: until it is deleted or mended, nothing is removed.
            log.warning("blobs not collected", extra={"reason": str(error)})
            self._postponed |= dropped
            return
        dropped = dropped | self._postponed
        condemned = garbage(self._blobs.ages_s(), needed=needed, dropped=dropped)
        removed = self._blobs.remove(condemned)
        self._postponed = condemned - removed
        if removed:
            log.info("blobs removed", extra={"count": len(removed)})

    def _resolved(self, stored: Stored, *, listing: bool = False) -> ResolvedModel:
        manifest = stored.manifest
        self.check_whole(manifest)
        config = self.config(manifest)
        by_type: dict[str, list[Layer]] = {}
        for layer in manifest.layers:
            by_type.setdefault(layer.media_type, []).append(layer)
        weights = by_type.get(MediaType.WEIGHTS, [])
        details = ModelDetails(
            parent_model=next((layer.source for layer in weights if layer.source), ""),
            format=config.model_format,
            family=config.model_family,
            families=config.model_families,
            parameter_size=config.model_type,
            quantization_level=config.file_type,
            context_length=config.context_length,
            embedding_length=config.embedding_length,
        )
        model = ResolvedModel(
            name=stored.name.display,
            full_name=stored.name.full,
            digest=str(stored.digest),
            size=sum(layer.size for layer in (manifest.config, *manifest.layers)),
            modified_at=datetime.fromtimestamp(stored.modified_s, UTC).astimezone().isoformat(),
            details=details,
            capabilities=config.capabilities,
            requires=config.requires or "",
        )
        if listing:
            return model
        return model.model_copy(update=self._depends(by_type, manifest))

    def _depends(self, by_type: dict[str, list[Layer]], manifest: Manifest) -> dict[str, Any]:
        def texts(kind: MediaType) -> list[str]:
            return [self._parsed(layer, _text) for layer in by_type.get(kind, [])]

        parameters: dict[str, Any] = {}
        for layer in by_type.get(MediaType.PARAMETERS, []):
            parameters |= self.parameters(layer)
        messages: tuple[ChatMessage, ...] = ()
        for layer in by_type.get(MediaType.MESSAGES, []):
            messages += self._parsed(layer, _MESSAGES.validate_json)
        return {
            "layers": tuple(_descriptor(layer) for layer in manifest.layers),
            "system": "\n".join(texts(MediaType.SYSTEM)),
            "template": "".join(texts(MediaType.TEMPLATE)),
            "license": tuple(texts(MediaType.LICENSE)),
            "parameters": parameters,
            "messages": messages,
        }

    def _bytes(self, layer: Layer) -> bytes:
        return self._blobs.read(Digest.parse(layer.digest), limit_bytes=LIMIT_BYTES)

    def _parsed(self, layer: Layer, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(self._bytes(layer))
        except (ValidationError, UnicodeDecodeError) as error:
            raise InvalidModelError(f"the layer {layer.media_type} is damaged") from error


def parameters_json(parameters: dict[str, Any]) -> bytes:
    """The bytes of a layer of parameters."""
    return json.dumps(parameters, ensure_ascii=False, separators=(",", ":")).encode()


def messages_json(messages: tuple[ChatMessage, ...]) -> bytes:
    """The bytes of a layer of messages."""
    return _MESSAGES.dump_json(messages, exclude_defaults=True)


def _origin(manifest: Manifest) -> dict[str, str]:
    """Where the weights were pulled from, under names that no file's own metadata has."""
    found: dict[str, str] = {}
    for layer in manifest.layers:
        if layer.media_type == MediaType.WEIGHTS:
            found |= layer.origin
    names = {SOURCE: "rkllama.source", REVISION: "rkllama.revision"}
    return {name: found[key] for key, name in names.items() if key in found}


def _text(data: bytes) -> str:
    return data.decode()


def _descriptor(layer: Layer) -> Descriptor:
    return Descriptor(
        media_type=layer.media_type, digest=layer.digest, size=layer.size, name=layer.title
    )
