"""The models in a data folder, read from their manifests: for looking at a board whose store is not running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from rkllama_protocol.messages import TEMPLATE_TYPE, WEIGHTS_TYPE
from rkllama_protocol.names import Digest, InvalidNameError, ModelName

TITLE = "org.opencontainers.image.title"
"""Annotation with a layer's file name (OCI image-spec, annotations.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One model of the store."""

    name: str
    """The shortest form, with its tag."""
    model_format: str
    weights_name: str
    weights: Path
    size_bytes: int
    files: dict[str, str]
    """Every file by its name, to the blob's path."""
    template: str


def stored_models(models: Path) -> Iterator[StoredModel]:
    """Every readable model under `models`, by name; what cannot be read is passed over."""
    manifests = models / "manifests"
    for path in sorted(manifests.glob("*/*/*/*")):
        try:
            layers = orjson.loads(path.read_bytes())["layers"]
            host, namespace, name, tag = path.relative_to(manifests).parts
            shown = ModelName(host=host, namespace=namespace, model=name, tag=tag).display
            model = _model(shown, layers, models / "blobs")
        except (OSError, ValueError, KeyError, TypeError, InvalidNameError):
            continue
        if model is not None:
            yield model


def _model(name: str, layers: list[dict[str, object]], blobs: Path) -> StoredModel | None:
    files: dict[str, str] = {}
    template = weights = ""
    for layer in layers:
        blob = blobs / Digest.parse(str(layer["digest"])).file_name
        annotations = layer.get("annotations")
        title = str(annotations[TITLE]) if isinstance(annotations, dict) else ""
        if title:
            files[title] = str(blob)
        if layer["mediaType"] == TEMPLATE_TYPE:
            template = blob.read_text()
        elif layer["mediaType"] == WEIGHTS_TYPE:
            weights = title
    if not weights:
        return None
    return StoredModel(
        name=name,
        model_format=Path(weights).suffix.removeprefix("."),
        weights_name=weights,
        weights=Path(files[weights]),
        size_bytes=Path(files[weights]).stat().st_size,
        files=files,
        template=template,
    )
