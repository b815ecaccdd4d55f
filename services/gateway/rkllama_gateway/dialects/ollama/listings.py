"""Bodies of `/api/tags`, `/api/ps`, `/api/version` and `/api/status` (contract 2.2-2.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rkllama_protocol.messages import ModelDetails, ResidentModel, ResolvedModel, TagsReply
from rkllama_protocol.names import Digest

from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.gotime import FOREVER_NS, local


def version(text: str) -> bytes:
    """`text` is a bare semver: the level of Ollama's API that is spoken, not of this product."""
    return dumps({"version": text})


def status() -> bytes:
    """There is no cloud behind this server."""
    return dumps({"cloud": {"disabled": True, "source": "env"}})


def tags(reply: TagsReply) -> bytes:
    """Every model, in the order of the store."""
    return dumps({"models": [_tag(model) for model in reply.models]})


def ps(models: Iterable[ResidentModel], *, now_ns: int, utc_offset_s: int) -> bytes:
    """What is resident anywhere, what stays longest first; a model on several boards stands once."""
    longest: dict[str, tuple[int, ResidentModel]] = {}
    for model in models:
        left_ns = FOREVER_NS if model.expires_in_s is None else int(model.expires_in_s * 1e9)
        if model.digest not in longest or longest[model.digest][0] < left_ns:
            longest[model.digest] = (left_ns, model)
    ordered = sorted(longest.values(), key=lambda entry: (-entry[0], entry[1].name))
    return dumps(
        {
            "models": [
                _resident(model, local(now_ns + left_ns, offset_s=utc_offset_s))
                for left_ns, model in ordered
            ]
        }
    )


def details(facts: ModelDetails, *, lengths: bool) -> dict[str, Any]:
    """`details` of a model; only `/api/tags` has the two lengths in it."""
    shown: dict[str, Any] = {
        "parent_model": facts.parent_model,
        "format": facts.format,
        "family": facts.family,
        "families": facts.families or None,
        "parameter_size": facts.parameter_size,
        "quantization_level": facts.quantization_level,
    }
    if lengths and facts.context_length:
        shown["context_length"] = facts.context_length
    if lengths and facts.embedding_length:
        shown["embedding_length"] = facts.embedding_length
    return shown


def _tag(model: ResolvedModel) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": Digest.parse(model.digest).hex,
        "details": details(model.details, lengths=True),
    }
    if model.capabilities:
        shown["capabilities"] = model.capabilities
    return shown


def _resident(model: ResidentModel, expires_at: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size,
        "digest": Digest.parse(model.digest).hex,
        "details": details(model.details, lengths=False),
        "expires_at": expires_at,
        "size_vram": model.size_vram,
        "context_length": model.context_length,
    }
