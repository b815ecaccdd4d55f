"""Requests as far as a body alone tells, with Ollama's checks in Ollama's order (contract 4).

parse -> model -> max_tokens -> messages -> content -> name syntax       here
existence                                                                the caller, with `request.name`
everything that depends on the model                                     `jobs`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rkllama_protocol.messages import ChatMessage
from rkllama_protocol.names import ModelName

from rkllama_gateway.dialects.anthropic import bodies, messages
from rkllama_gateway.dialects.anthropic.tools import Offered, offered
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.rules import THINK_LEVELS
from rkllama_gateway.dialects.targets import REQUIRED, target

EMPTY = "EOF"
"""What a body with nothing in it is refused with (contract 1.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRequest:
    """A conversation to go on with, or to count the tokens of."""

    model: str
    """As typed; answers repeat it so."""
    name: ModelName
    messages: tuple[ChatMessage, ...]
    """The system prompt first, if there is one."""
    offered: Offered = Offered()  # noqa: RUF009 - it cannot change
    think: bool | str | None = None
    """None is "not said"."""
    format: dict[str, Any] | None = None
    """JSON Schema of the answer's text."""
    options: Mapping[str, Any]
    """By Ollama's names; only what was said."""
    stream: bool = False
    count_only: bool = False
    """Whether only the tokens of the prompt are asked for."""

    @property
    def image_count(self) -> int:
        """How many images all messages have."""
        return sum(len(message.images) for message in self.messages)

    @property
    def stop_sequences(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return tuple(self.options.get("stop", ()))


def parse_messages(body: bytes) -> MessageRequest:
    """The body of `/v1/messages`.

    Raises:
        DialectError: 400, with what is wrong; 403 for a model on somebody else's computers.
    """
    fields = decode(body, bodies.MESSAGES, missing=EMPTY)
    _need_model(fields)
    if fields.get("max_tokens", 0) <= 0:
        raise DialectError(400, "max_tokens is required and must be positive")
    options = {"num_predict": fields["max_tokens"]}
    for name in ("temperature", "top_p", "top_k"):
        if name in fields:
            options[name] = fields[name]
    if stops := fields.get("stop_sequences"):
        options["stop"] = stops
    return _request(fields, options=options, stream=fields.get("stream", False))


def parse_count(body: bytes) -> MessageRequest:
    """The body of `/v1/messages/count_tokens`.

    Raises:
        DialectError: As for `parse_messages`.
    """
    fields = decode(body, bodies.COUNT_TOKENS, missing=EMPTY)
    _need_model(fields)
    return _request(fields, options={}, count_only=True)


def _need_model(fields: Mapping[str, Any]) -> None:
    if not fields.get("model"):
        raise DialectError(400, REQUIRED)


def _request(
    fields: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    stream: bool = False,
    count_only: bool = False,
) -> MessageRequest:
    turns = fields.get("messages")
    if not turns:
        raise DialectError(400, "messages is required")
    said = messages.system(fields.get("system", "")) + messages.conversation(turns)
    tools = offered(fields.get("tools", ()), fields.get("tool_choice"))
    output = fields.get("output_config", {})
    return MessageRequest(
        model=fields["model"],
        messages=said,
        offered=tools,
        think=_think(fields.get("thinking", {}), output),
        format=_format(output.get("format")),
        options=options,
        stream=stream,
        count_only=count_only,
        name=target(fields["model"], empty=DialectError(400, REQUIRED)),
    )


def _think(thinking: Mapping[str, Any], output: Mapping[str, Any]) -> bool | str | None:
    """Whether to think, and how hard; what is unknown is not said."""
    match thinking.get("type"):
        case "enabled":
            return True
        case "disabled":
            return False
    effort: str = output.get("effort", "").strip().lower()
    effort = "high" if effort == "xhigh" else effort
    return effort if effort in THINK_LEVELS else None


def _format(asked: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    if (kind := asked.get("type", "")) != "json_schema":
        raise DialectError(
            400, f'invalid output_config.format type: {quote(kind)} (must be "json_schema")'
        )
    schema = asked.get("schema")
    if not isinstance(schema, dict):
        raise DialectError(400, "output_config.format: the schema is no object")
    return schema
