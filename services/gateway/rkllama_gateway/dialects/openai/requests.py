"""Requests for text and vectors, as far as a body alone tells.

body, OpenAI's own rules        here
likely tokens, the name         `target`, in Ollama's order (contract 1.5)
what depends on the model       `jobs`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rkllama_protocol.messages import ChatMessage
from rkllama_protocol.names import ModelName

from rkllama_gateway.dialects import targets
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.openai import bodies
from rkllama_gateway.dialects.openai.messages import conversation, go_type
from rkllama_gateway.dialects.openai.tools import Tool, named, offered
from rkllama_gateway.dialects.rules import check_top_logprobs

MISSING = "EOF"
"""What Go says of a body with nothing in it where Ollama does not say it better (contract 1.2)."""

_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
_EFFORTS_TEXT = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
_ENCODINGS = ("float", "base64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A request for text; None is "not said"."""

    model: str
    """As typed; answers repeat it so."""
    doing: Literal["chat", "generate"]
    """What Ollama says that a model cannot."""
    stream: bool = False
    include_usage: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, by Ollama's names."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What OpenAI has where nothing was asked for; it comes before the model's own values."""
    messages: tuple[ChatMessage, ...] = ()
    """None: the model is only loaded."""
    suffix: str = ""
    """With it, the one message is a prompt, and the model fills the middle."""
    tools: tuple[Tool, ...] = ()
    forced_tools: tuple[str, ...] = ()
    one_call: bool = False
    """Whether only the first call of an answer is told."""
    think: bool | str | None = None
    format: Literal["json"] | dict[str, Any] | None = None
    top_logprobs: int | None = None
    """None: no logprobs."""
    render_only: bool = False

    @property
    def image_count(self) -> int:
        """How many images all messages have."""
        return sum(len(message.images) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Texts to make vectors of."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int = 0
    base64: bool = False
    """Whether a vector is base64 of its little-endian float32 values."""


def parse_chat(body: bytes) -> Run:
    """The body of `/v1/chat/completions`.

    Raises:
        DialectError: It is no such request.
    """
    fields = decode(body, bodies.CHAT, missing=MISSING)
    if not fields.get("messages"):
        raise DialectError(400, "[] is too short - 'messages'")
    _one_choice(fields)
    messages = conversation(fields["messages"])
    choice = offered(named(fields.get("tools", ())), fields.get("tool_choice"))
    most = fields.get("max_completion_tokens", fields.get("max_tokens"))
    effort = fields.get("reasoning_effort") or fields.get("reasoning", {}).get("effort")
    return Run(
        model=fields.get("model", ""),
        doing="chat",
        stream=fields.get("stream", False),
        include_usage=fields.get("stream_options", {}).get("include_usage", False),
        options=_options(fields, num_predict=most),
        defaults={"temperature": 1.0, "top_p": 1.0},
        messages=messages,
        tools=choice.tools,
        forced_tools=choice.forced,
        one_call=not fields.get("parallel_tool_calls", True),
        think=thinking(effort),
        format=_response_format(fields.get("response_format", {})),
        top_logprobs=fields.get("top_logprobs", 0) if fields.get("logprobs") else None,
        render_only=fields.get("_debug_render_only", False),
    )


def parse_completion(body: bytes) -> Run:
    """The body of `/v1/completions`.

    Raises:
        DialectError: It is no such request.
    """
    fields = decode(body, bodies.COMPLETION, missing=MISSING)
    _one_choice(fields)
    prompt = fields.get("prompt", "")
    if not fields.get("top_p"):
        fields.pop("top_p", None)
    return Run(
        model=fields.get("model", ""),
        doing="generate",
        stream=fields.get("stream", False),
        include_usage=fields.get("stream_options", {}).get("include_usage", False),
        options=_options(fields, num_predict=fields.get("max_tokens")),
        defaults={"temperature": 1.0, "top_p": 1.0},
        messages=(ChatMessage(role="user", content=prompt),) if prompt else (),
        suffix=fields.get("suffix", ""),
        top_logprobs=fields.get("logprobs"),
        render_only=fields.get("_debug_render_only", False),
    )


def parse_embedding(body: bytes) -> Embedding:
    """The body of `/v1/embeddings`.

    Raises:
        DialectError: It is no such request.
    """
    fields = decode(body, bodies.EMBEDDING, missing=MISSING)
    encoding = fields.get("encoding_format", "")
    if encoding and encoding.lower() not in _ENCODINGS:
        raise DialectError(
            400,
            f"Invalid value for 'encoding_format' = {encoding}. "
            f"Supported values: ['float', 'base64'].",
        )
    return Embedding(
        model=fields.get("model", ""),
        inputs=_inputs(fields.get("input")),
        dimensions=fields.get("dimensions", 0),
        base64=encoding.lower() == "base64",
    )


def target(asked: Run | Embedding) -> ModelName:
    """The model that is asked for; what is wrong here, Ollama's native endpoints find.

    Raises:
        DialectError: There is no such name, or too many likely tokens are asked for.
    """
    if isinstance(asked, Run):
        check_top_logprobs(asked.top_logprobs or 0)
        empty = DialectError(400, targets.REQUIRED)
        if asked.doing == "generate":
            empty = DialectError(404, f"model '{asked.model}' not found")
    else:
        empty = DialectError(404, f"model '{asked.model}' not found")
    return targets.target(asked.model, empty=empty)


def thinking(effort: str | None) -> bool | str | None:
    """Whether to think, and how hard, for a reasoning effort.

    Raises:
        DialectError: It is none.
    """
    if not effort:
        return None
    if effort not in _EFFORTS:
        raise DialectError(
            400, f"invalid reasoning value: {quote(effort)} (must be {_EFFORTS_TEXT})"
        )
    return _EFFORTS[effort]


def schema_of(value: object, *, field_name: str) -> dict[str, Any]:
    """A JSON schema, which is an object.

    Raises:
        DialectError: It is none.
    """
    if isinstance(value, dict):
        return value
    raise DialectError(400, f"{field_name} must be a JSON schema object")


def _one_choice(fields: Mapping[str, Any]) -> None:
    if fields.get("n", 1) != 1:
        raise DialectError(400, "n must be 1: this server makes one choice for a request")


def _options(fields: Mapping[str, Any], *, num_predict: int | None) -> dict[str, Any]:
    """The options that were asked for; an empty `stop` is none."""
    taken = ("seed", "temperature", "top_p", "frequency_penalty", "presence_penalty")
    options = {name: fields[name] for name in taken if name in fields}
    if num_predict is not None:
        options["num_predict"] = num_predict
    if stop := _stop(fields.get("stop")):
        options["stop"] = stop
    return options


def _stop(value: object) -> list[str]:
    found: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    for text in found:
        if not isinstance(text, str):
            raise DialectError(400, f"invalid type for 'stop' field: {go_type(text)}")
    return [text for text in found if text]


def _response_format(fields: Mapping[str, Any]) -> Literal["json"] | dict[str, Any] | None:
    match fields.get("type", "text"):
        case "text" | "":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            schema = fields.get("json_schema", {}).get("schema")
            return schema_of(schema, field_name="response_format.json_schema.schema")
        case other:
            raise DialectError(
                400,
                f"invalid response_format type: {quote(other)} "
                '(must be "text", "json_object", or "json_schema")',
            )


def _inputs(value: object) -> tuple[str, ...]:
    match value:
        case str():
            return (value,)
        case None | []:
            raise DialectError(400, "invalid input")
        case list() if all(isinstance(item, str) for item in value):
            return tuple(value)
        case _:
            raise DialectError(400, "invalid input type")
