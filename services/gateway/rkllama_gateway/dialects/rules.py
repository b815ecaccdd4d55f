"""What every dialect's requests have to keep to, and what a model adds to them.

The texts are Ollama's, which says them in every dialect (contract 1.5, 3).
"""

from __future__ import annotations

from rkllama_protocol.messages import ChatMessage, ResolvedModel

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote

MOST_TOP_LOGPROBS = 20
THINK_LEVELS = ("high", "medium", "low", "max")


def check_top_logprobs(count: int) -> None:
    """Refuse what is no number of likely tokens to tell."""
    if not 0 <= count <= MOST_TOP_LOGPROBS:
        raise DialectError(400, f"top_logprobs must be between 0 and {MOST_TOP_LOGPROBS}")


def check_completion(
    model: ResolvedModel, *, typed: str, think: bool | str | None, doing: str
) -> None:
    """Refuse to think, and then to talk, with a model that cannot; `doing` is what it shall do."""
    if think and "thinking" not in model.capabilities:
        raise DialectError(400, f"{quote(typed)} does not support thinking")
    if "completion" not in model.capabilities:
        raise DialectError(400, f"{quote(typed)} does not support {doing}")


def check_embedding(model: ResolvedModel, *, typed: str, doing: str) -> None:
    """Refuse to embed with a model that cannot; one that talks can (contract 1.5)."""
    if {"embedding", "completion"}.isdisjoint(model.capabilities):
        raise DialectError(400, f"{quote(typed)} does not support {doing}")


def need(model: ResolvedModel, capability: str) -> None:
    """Refuse a model without a capability of requests, by its full name."""
    if capability not in model.capabilities:
        raise DialectError(400, f"{model.full_name} does not support {capability}")


def conversation(
    model: ResolvedModel, messages: tuple[ChatMessage, ...]
) -> tuple[ChatMessage, ...]:
    """The messages behind the model's own.

    The model's SYSTEM stands first unless the client's first message is a system message.
    """
    all_messages = model.messages + messages
    if model.system and messages[0].role != "system":
        return (ChatMessage(role="system", content=model.system), *all_messages)
    return all_messages


def thinking(model: ResolvedModel, *, asked: bool | str | None) -> bool | str | None:
    """Request before model; a model that can think does unless it is told not to (contract 2.7)."""
    if asked is not None or "thinking" not in model.capabilities:
        return asked
    said = model.parameters.get("think")
    return said if isinstance(said, bool) or said in THINK_LEVELS else True
