"""Requests that make a model work: chat, generate and embed, as far as a body alone tells.

parse -> top_logprobs -> name syntax        here
existence                                   the caller, with `request.name`
everything that depends on the model        `jobs`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rkllama_protocol.messages import ChatMessage
from rkllama_protocol.names import ModelName

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.ollama import bodies
from rkllama_gateway.dialects.ollama.failures import Endpoint, model_not_found
from rkllama_gateway.dialects.rules import check_top_logprobs
from rkllama_gateway.dialects.targets import REQUIRED, target


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What these requests have in common; None is "not said"."""

    model: str
    """As typed; answers repeat it so."""
    name: ModelName
    stream: bool = True
    options: Mapping[str, Any]
    keep_alive_s: float | None = None
    """Negative is for ever."""
    think: bool | str | None = None
    format: Any = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation to go on with; without messages it only loads the model."""

    common: Inference
    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def image_count(self) -> int:
        """How many images all messages have."""
        return sum(len(message.images) for message in self.messages)

    @property
    def model(self) -> str:
        """The name as typed."""
        return self.common.model

    @property
    def name(self) -> ModelName:
        """The name, parsed."""
        return self.common.name

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.common.stream


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """A prompt to answer; without one it only loads the model."""

    common: Inference
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: tuple[int, ...] = ()
    raw: bool = False
    images: tuple[str, ...] = ()

    @property
    def image_count(self) -> int:
        """How many images there are."""
        return len(self.images)

    @property
    def model(self) -> str:
        """The name as typed."""
        return self.common.model

    @property
    def name(self) -> ModelName:
        """The name, parsed."""
        return self.common.name

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.common.stream


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Texts to make vectors of; without any it only loads the model."""

    common: Inference
    endpoint: Endpoint
    """`EMBED`, or `EMBEDDINGS`, which is older and has one text and the vector as it is."""
    inputs: tuple[str, ...] = ()
    dimensions: int = 0
    """Length to cut vectors to; what is no length of a shorter vector is ignored."""

    @property
    def model(self) -> str:
        """The name as typed."""
        return self.common.model

    @property
    def name(self) -> ModelName:
        """The name, parsed."""
        return self.common.name


def parse_chat(body: bytes) -> ChatRequest:
    """The body of `/api/chat`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.CHAT)
    return ChatRequest(
        common=_inference(fields, empty=DialectError(400, REQUIRED)),
        messages=tuple(message(item) for item in fields.get("messages", ())),
        tools=tuple(item for item in fields.get("tools", ()) if item),
    )


def parse_generate(body: bytes) -> GenerateRequest:
    """The body of `/api/generate`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.GENERATE)
    typed = fields.get("model", "")
    return GenerateRequest(
        common=_inference(fields, empty=model_not_found(Endpoint.GENERATE, typed)),
        prompt=fields.get("prompt", ""),
        suffix=fields.get("suffix", ""),
        system=fields.get("system", ""),
        template=fields.get("template", ""),
        context=tuple(fields.get("context", ())),
        raw=fields.get("raw", False),
        images=tuple(_one_line(image) for image in fields.get("images", ())),
    )


def parse_embed(body: bytes) -> EmbedRequest:
    """The body of `/api/embed`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.EMBED)
    inputs = _inputs(fields.get("input"))
    typed = fields.get("model", "")
    return EmbedRequest(
        common=_inference(fields, empty=model_not_found(Endpoint.GENERATE, typed)),
        endpoint=Endpoint.EMBED,
        inputs=inputs,
        dimensions=fields.get("dimensions", 0),
    )


def parse_embeddings(body: bytes) -> EmbedRequest:
    """The body of `/api/embeddings`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.EMBEDDINGS) | {"truncate": False}
    prompt = fields.get("prompt", "")
    return EmbedRequest(
        common=_inference(fields, empty=DialectError(400, REQUIRED)),
        endpoint=Endpoint.EMBEDDINGS,
        inputs=(prompt,) if prompt else (),
    )


def message(fields: Mapping[str, Any]) -> ChatMessage:
    """One message, its role in lower case."""
    return ChatMessage(
        role=fields.get("role", "").lower(),
        content=fields.get("content", ""),
        thinking=fields.get("thinking", ""),
        images=tuple(_one_line(image) for image in fields.get("images", ())),
        tool_calls=tuple(_tool_call(call) for call in fields.get("tool_calls", ())),
        tool_name=fields.get("tool_name", ""),
        tool_call_id=fields.get("tool_call_id", ""),
    )


def _inference(fields: Mapping[str, Any], *, empty: DialectError) -> Inference:
    top_logprobs = fields.get("top_logprobs", 0)
    check_top_logprobs(top_logprobs)
    typed = fields.get("model", "")
    return Inference(
        model=typed,
        name=target(typed, empty=empty),
        stream=fields.get("stream", True),
        options=fields.get("options", {}),
        keep_alive_s=fields.get("keep_alive"),
        think=fields.get("think"),
        format=fields.get("format"),
        truncate=fields.get("truncate", True),
        shift=fields.get("shift", True),
        logprobs=fields.get("logprobs", False),
        top_logprobs=top_logprobs,
        render_only=fields.get("_debug_render_only", False),
    )


def _inputs(value: Any) -> tuple[str, ...]:
    """One empty text is nothing to embed, in a list it is a text like others (contract 2.10)."""
    match value:
        case None | "":
            return ()
        case str():
            return (value,)
        case list() if all(isinstance(item, str) for item in value):
            return tuple(value)
        case _:
            raise DialectError(400, "invalid input type")


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose name and arguments are there, since templates print them unasked."""
    return {**call, "function": {"name": "", "arguments": {}} | call.get("function", {})}


def _one_line(image: str) -> str:
    """Base64 may come wrapped; inside it is one line."""
    return image.replace("\n", "").replace("\r", "")
