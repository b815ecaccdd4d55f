"""The models in a data folder, read from their manifests: for looking at a board whose store is not running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from rkllama_policy.cost import WEIGHTS_ENDINGS
from rkllama_protocol.names import Digest, InvalidNameError

TITLE = "org.opencontainers.image.title"
"""Annotation with a layer's file name (OCI image-spec, annotations.md)."""
TEMPLATE_TYPE = "application/vnd.ollama.image.template"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One model of the store."""

    name: str
    """Host, namespace, model and tag, as the folders spell them."""
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
            model = _model(str(path.relative_to(manifests)), layers, models / "blobs")
        except (OSError, ValueError, KeyError, TypeError, InvalidNameError):
            continue
        if model is not None:
            yield model


def _model(name: str, layers: list[dict[str, object]], blobs: Path) -> StoredModel | None:
    files: dict[str, str] = {}
    template = ""
    for layer in layers:
        blob = blobs / Digest.parse(str(layer["digest"])).file_name
        annotations = layer.get("annotations")
        if isinstance(annotations, dict) and TITLE in annotations:
            files[str(annotations[TITLE])] = str(blob)
        elif layer["mediaType"] == TEMPLATE_TYPE:
            template = blob.read_text()
    for model_format, ending in WEIGHTS_ENDINGS.items():
        found = next((title for title in files if title.endswith(ending)), None)
        if found is not None:
            weights = Path(files[found])
            return StoredModel(
                name=name,
                model_format=model_format,
                weights_name=found,
                weights=weights,
                size_bytes=weights.stat().st_size,
                files=files,
                template=template,
            )
    return None
