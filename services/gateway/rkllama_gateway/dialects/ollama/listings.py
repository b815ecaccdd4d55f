"""Bodies of `/api/tags`, `/api/ps`, `/api/version` and `/api/status` (contract 2.2-2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rkllama_protocol.messages import (
    ModelDetails,
    QueuedModel,
    ResidentModel,
    ResolvedModel,
    TagsReply,
)
from rkllama_protocol.names import Digest

from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.gotime import FOREVER_NS, local

NO_LIMITS: Mapping[str, int] = MappingProxyType({})


def version(text: str) -> bytes:
    """`text` is a bare semver: the level of Ollama's API that is spoken, not of this product."""
    return dumps({"version": text})


def status() -> bytes:
    """There is no cloud behind this server."""
    return dumps({"cloud": {"disabled": True, "source": "env"}})


def tags(reply: TagsReply, *, context_limits: Mapping[str, int] = NO_LIMITS) -> bytes:
    """Every model, in the order of the store.

    `context_limits` are what boards told of files by their models' digests; see `show.limited`.
    """
    return dumps(
        {"models": [_tag(model, context_limits.get(model.digest)) for model in reply.models]}
    )


def ps(
    models: Iterable[ResidentModel],
    *,
    now_ns: int,
    utc_offset_s: int,
    queues: Sequence[QueuedModel] = (),
) -> bytes:
    """What is resident anywhere, or being loaded; what stays longest comes first.

    A model that several boards hold stands once: with the memory it takes on all of them, until the
    last of them lets it go, and with the context that every one of them has. Where requests wait, a
    `queue` beside the models says for which, in all gateways; Ollama has no such field.
    """
    boards: dict[tuple[str, str], list[ResidentModel]] = {}
    for model in models:
        # One that is going can answer nothing any more.
        if model.state != "unloading":
            boards.setdefault((model.full_name, model.digest), []).append(model)
    rows = [(max(map(_left_ns, held)), held) for held in boards.values()]
    rows.sort(key=lambda row: (-row[0], row[1][0].name))
    shown: dict[str, Any] = {
        "models": [
            _resident(held, local(now_ns + left_ns, offset_s=utc_offset_s))
            for left_ns, held in rows
        ]
    }
    if queues:
        shown["queue"] = _queue(queues)
    return dumps(shown)


def _queue(queues: Sequence[QueuedModel]) -> list[dict[str, Any]]:
    """A row for each model and class, by name; seconds are those to the first token of the last."""
    waiting: dict[tuple[str, str], list[QueuedModel]] = {}
    for row in queues:
        waiting.setdefault((row.name, row.job_class.value), []).append(row)
    return [
        {
            "model": name,
            "class": job_class,
            "waiting": sum(row.waiting for row in rows),
            "predicted_wait": max(
                (round(row.wait_s, 1) for row in rows if row.wait_s is not None), default=None
            ),
        }
        for (name, job_class), rows in sorted(waiting.items())
    ]


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


def _tag(model: ResolvedModel, context_limit: int | None) -> dict[str, Any]:
    facts = model.details
    if context_limit is not None:
        least = min(facts.context_length or context_limit, context_limit)
        facts = facts.model_copy(update={"context_length": least})
    shown: dict[str, Any] = {
        "name": model.name,
        "model": model.name,
        "modified_at": model.modified_at,
        "size": model.size,
        "digest": Digest.parse(model.digest).hex,
        "details": details(facts, lengths=True),
    }
    if model.capabilities:
        shown["capabilities"] = model.capabilities
    return shown


def _left_ns(model: ResidentModel) -> int:
    return FOREVER_NS if model.expires_in_s is None else int(model.expires_in_s * 1e9)


def _resident(held: Sequence[ResidentModel], expires_at: str) -> dict[str, Any]:
    model = held[0]
    # A board that still loads the model does not know its context yet.
    contexts = [each.context_length for each in held if each.context_length]
    return {
        "name": model.name,
        "model": model.name,
        "size": sum(each.size for each in held),
        "digest": Digest.parse(model.digest).hex,
        "details": details(model.details, lengths=False),
        "expires_at": expires_at,
        "size_vram": sum(each.size_vram for each in held),
        "context_length": min(contexts, default=0),
    }
