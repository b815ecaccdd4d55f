"""The chat template that lies among a model's files, for whoever gave it none of its own.

    chat_template.jinja       stands before
    tokenizer_config.json     `chat_template`

An engine that loads the model reads the same files (`rkllama_worker.engine.model_files`).
"""

from __future__ import annotations

from collections.abc import Iterable

from rkllama_protocol.names import Digest

from rkllama_store import facts
from rkllama_store.blobs import Blobs
from rkllama_store.manifests import LIMIT_BYTES, Layer

CONFIG_BYTES = 16 * 2**20


def in_files(layers: Iterable[Layer], blobs: Blobs) -> str:
    """The template in Jinja, or empty. Blocks.

    Raises:
        InvalidModelError: The file that should have it is damaged.
    """
    titled = {layer.title: layer for layer in layers}
    if (layer := titled.get(facts.TEMPLATE_FILE)) is not None:
        return _read(blobs, layer, LIMIT_BYTES).decode(errors="replace")
    if (layer := titled.get(facts.TOKENIZER_CONFIG_FILE)) is not None:
        return facts.template_of(_read(blobs, layer, CONFIG_BYTES))
    return ""


def _read(blobs: Blobs, layer: Layer, limit_bytes: int) -> bytes:
    return blobs.read(Digest.parse(layer.digest), limit_bytes=limit_bytes)
