"""Manifests: which blobs make up the model that a name means.

The file has the shape that Ollama's has (contract 7), with two additions of ours: layers have
annotations (OCI image-spec, annotations), and the config says what the model can do. A manifest's
digest is that of the file's bytes.

    org.opencontainers.image.title       the name that the file came with
    org.opencontainers.image.source      of weights that were pulled: the repository's address
    org.opencontainers.image.revision    and its commit
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rkllama_protocol.errors import InvalidJobError, InvalidModelError, ModelNotFoundError
from rkllama_protocol.messages import DigestText
from rkllama_protocol.names import Digest, InvalidNameError, ModelName
from rkllama_transfer.durable import discard, make_folder, publish, storage_errors, sync_folder

from rkllama_store.folder import INCOMING, MANIFESTS

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
TITLE = "org.opencontainers.image.title"
SOURCE = "org.opencontainers.image.source"
REVISION = "org.opencontainers.image.revision"
LIMIT_BYTES = 2**20
"""A larger manifest, or config, is damaged."""


class MediaType(StrEnum):
    """What a layer is."""

    CONFIG = "application/vnd.docker.container.image.v1+json"
    WEIGHTS = "application/vnd.ollama.image.model"
    PROJECTOR = "application/vnd.ollama.image.projector"
    TEMPLATE = "application/vnd.ollama.image.template"
    SYSTEM = "application/vnd.ollama.image.system"
    PARAMETERS = "application/vnd.ollama.image.params"
    MESSAGES = "application/vnd.ollama.image.messages"
    LICENSE = "application/vnd.ollama.image.license"
    ADAPTER = "application/vnd.ollama.image.adapter"
    """A LoRA adapter, with the name of its file."""
    FILE = "application/vnd.rkllama.image.file"
    """A small file that an engine reads by its name, such as `tokenizer.json`."""
    FACTS = "application/vnd.rkllama.image.facts+json"
    """`facts.Recorded`, read from the weights once."""


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Layer(_Json):
    """One descriptor of a manifest."""

    media_type: str = Field(alias="mediaType")
    digest: DigestText
    size: int = Field(ge=0)
    source: str | None = Field(default=None, alias="from")
    """Display name of the model that these weights were taken from."""
    annotations: dict[str, str] | None = None

    @property
    def title(self) -> str:
        """The file's name as it came, or empty."""
        return (self.annotations or {}).get(TITLE, "")

    @property
    def origin(self) -> dict[str, str]:
        """Where the file was pulled from; empty if it was not."""
        found = self.annotations or {}
        return {key: found[key] for key in (SOURCE, REVISION) if key in found}

    @property
    def label(self) -> str:
        """What it is to a person: the file's name, or the kind of layer."""
        return self.title or self.media_type.removesuffix("+json").rsplit(".", 1)[-1]


class Manifest(_Json):
    """One model."""

    schema_version: int = Field(default=2, alias="schemaVersion", ge=2, le=2)
    media_type: str = Field(default=MANIFEST_TYPE, alias="mediaType")
    config: Layer
    layers: tuple[Layer, ...]

    def digests(self) -> set[Digest]:
        """Every blob that it needs."""
        return {Digest.parse(layer.digest) for layer in (self.config, *self.layers)}

    def same_content(self, other: Manifest) -> bool:
        """Whether the other differs at most in where it was pulled from."""
        return self._without_origin() == other._without_origin()

    def _without_origin(self) -> Manifest:
        layers = []
        for layer in self.layers:
            kept = {key: text for key, text in (layer.annotations or {}).items() if key == TITLE}
            layers.append(layer.model_copy(update={"annotations": kept or None}))
        return self.model_copy(update={"layers": tuple(layers)})

    def encoded(self) -> bytes:
        """The bytes of its file."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Config(_Json):
    """The config blob; names are Ollama's. What is not known is empty."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    """Count of parameters as it is shown, such as `134.52M`."""
    file_type: str = ""
    """Quantisation."""
    context_length: int | None = None
    embedding_length: int | None = None
    capabilities: tuple[str, ...] = ()
    requires: str | None = None
    """The level of Ollama's API that it needs, such as `0.14.0`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A manifest as it lies in the store."""

    name: ModelName
    """In the spelling that the store keeps."""
    manifest: Manifest
    digest: Digest
    modified_s: float
    """When the name was written; seconds since the epoch."""


def parse(data: bytes) -> Manifest:
    """The manifest that `data` holds.

    Raises:
        InvalidModelError: It is none.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise InvalidModelError(f"not a manifest: {error.errors()[0]['msg']}") from error


class Manifests:
    """The manifest files under one store folder. Every method blocks; one thread at a time writes."""

    def __init__(self, root: Path) -> None:
        self._root = root / MANIFESTS
        self._incoming = root / INCOMING

    @property
    def begun(self) -> bool:
        """Whether this store ever had a model."""
        return self._root.is_dir()

    def names(self) -> list[ModelName]:
        """Every name that has a manifest, damaged ones included."""
        return sorted(self._names(), key=lambda name: (name.key, name.full))

    def find(self, name: ModelName) -> ModelName | None:
        """The stored spelling of `name`, or None."""
        return next((found for found in self.names() if found.key == name.key), None)

    def read(self, stored_name: ModelName) -> Stored:
        """The manifest of a name in its stored spelling.

        Raises:
            ModelNotFoundError: It is gone.
            InvalidModelError: The file is damaged or cannot be read.
        """
        try:
            with self._path(stored_name).open("rb") as file:
                data = file.read(LIMIT_BYTES + 1)
                modified_s = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"model '{stored_name.display}' not found") from error
        except OSError as error:
            raise InvalidModelError(f"the manifest cannot be read: {error.strerror}") from error
        if len(data) > LIMIT_BYTES:
            raise InvalidModelError("the manifest is too large")
        return Stored(
            name=stored_name,
            manifest=parse(data),
            digest=Digest(hashlib.sha256(data).hexdigest()),
            modified_s=modified_s,
        )

    def write(self, name: ModelName, manifest: Manifest) -> ModelName:
        """Give `name` this manifest; the name as it is kept, which is how it was first spelt.

        Raises:
            InvalidJobError: The name is too long for the disk.
            StorageError: The disk is full or refuses.
        """
        kept = self.find(name) or name
        if len(kept.host) > os.pathconf("/", "PC_NAME_MAX"):
            raise InvalidJobError("invalid model name")
        path = self._path(kept)
        temporary = self._incoming / uuid.uuid4().hex
        try:
            with storage_errors():
                make_folder(path.parent)
                with temporary.open("xb") as file:
                    file.write(manifest.encoded())
                    file.flush()
                    os.fsync(file.fileno())
                publish(temporary, path)
        finally:
            discard(temporary)
        return kept

    def remove(self, stored_name: ModelName) -> None:
        """Take the name away, and the folders that this leaves empty.

        Raises:
            StorageError: The disk refuses.
        """
        path = self._path(stored_name)
        with storage_errors():
            path.unlink()
            sync_folder(path.parent)
            for folder in list(path.parents)[:3]:
                if any(folder.iterdir()):
                    break
                folder.rmdir()

    def _path(self, name: ModelName) -> Path:
        return self._root / name.host / name.namespace / name.model / name.tag

    def _names(self) -> Iterator[ModelName]:
        for folder, folders, files in os.walk(self._root, onerror=_unless_gone):
            parts = Path(folder).relative_to(self._root).parts
            if len(parts) < _FOLDERS:
                continue
            host, namespace, model = parts
            tags = [*files, *folders]
            folders.clear()
            for tag in tags:
                try:
                    yield ModelName.parse(f"{host}/{namespace}/{model}:{tag}")
                except InvalidNameError:
                    # Not ours: no request can name it.
                    continue


_FOLDERS = 3


def _unless_gone(error: OSError) -> None:
    """A folder may go away with its last model while names are read."""
    if not isinstance(error, FileNotFoundError):
        raise error
