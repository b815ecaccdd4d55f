"""The body of `/v1/responses`: items become messages (contract 3.5).

    message                     a message
    function_call               a call of the assistant's message before it, or of a new one
    function_call_output        a `tool` message
    reasoning                   what the assistant's next message was thought out with
    web_search_call             nothing: what it found is in no item

Nothing is kept between requests, so that `previous_response_id` and its kin mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rkllama_protocol.messages import ChatMessage

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.openai import bodies
from rkllama_gateway.dialects.openai.messages import go_type, image, joined, role, tool_call
from rkllama_gateway.dialects.openai.requests import MISSING, Run, schema_of, thinking
from rkllama_gateway.dialects.openai.tools import Tool, nameless, offered, unsupported

LOGPROBS = "message.output_text.logprobs"
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_WEB = "web_search"
_SEPARATOR = "__"
"""Between a namespace and the name of a tool in it, in the one name that the model reads."""
_NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A request for a response, and what the response repeats of it."""

    run: Run
    echo: Mapping[str, Any]
    namespaces: Mapping[str, tuple[str, str]]
    """Name that the model reads, to namespace and name."""


def parse_response(body: bytes) -> ResponseRequest:
    """The body of `/v1/responses`.

    Raises:
        DialectError: It is no such request.
    """
    fields = decode(body, bodies.RESPONSES, missing=MISSING)
    messages = _messages(fields.get("input"))
    if instructions := fields.get("instructions", ""):
        messages.insert(0, ChatMessage(role="system", content=instructions))
    tools, namespaces = _tools(fields.get("tools", []))
    choice = offered(tools, fields.get("tool_choice"))
    effort = fields.get("reasoning", {}).get("effort", "")
    options = {
        name: fields[key]
        for name, key in (
            ("num_predict", "max_output_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
        )
        if key in fields
    }
    run = Run(
        model=fields.get("model", ""),
        doing="chat",
        stream=fields.get("stream", False),
        options=options,
        defaults={"temperature": 1.0},
        messages=tuple(messages),
        tools=choice.tools,
        forced_tools=choice.forced,
        one_call=not fields.get("parallel_tool_calls", True),
        think=thinking(effort),
        format=_format(fields.get("text", {}).get("format", {})),
        top_logprobs=fields.get("top_logprobs", 0)
        if LOGPROBS in fields.get("include", ())
        else None,
    )
    return ResponseRequest(run=run, echo=_echo(fields), namespaces=namespaces)


def _echo(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a response object says about its request, and what this server has to say instead."""
    reasoning = fields.get("reasoning", {})
    text = fields.get("text", {}).get("format") or {"type": "text"}
    return {
        "previous_response_id": None,
        "instructions": fields.get("instructions") or None,
        "tools": fields.get("tools", []),
        "tool_choice": fields.get("tool_choice", "auto"),
        "truncation": fields.get("truncation", "disabled"),
        "parallel_tool_calls": fields.get("parallel_tool_calls", True),
        "text": {"format": text},
        "top_p": fields.get("top_p", 1.0),
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": fields.get("top_logprobs", 0),
        "temperature": fields.get("temperature", 1.0),
        "reasoning": {
            "effort": reasoning.get("effort") or None,
            "summary": reasoning.get("summary") or None,
        },
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": None,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": fields.get("metadata", {}),
    }


def _format(fields: Mapping[str, Any]) -> Literal["json"] | dict[str, Any] | None:
    match fields.get("type", "text"):
        case "text" | "":
            return None
        case "json_object":
            return "json"
        case "json_schema":
            return schema_of(fields.get("schema"), field_name="text.format.schema")
        case other:
            raise DialectError(
                400,
                f"invalid text.format type: {quote(other)} "
                '(must be "text", "json_object", or "json_schema")',
            )


# ------------------------------------------------------------------------------ tools


def _tools(items: list[Any]) -> tuple[tuple[Tool, ...], dict[str, tuple[str, str]]]:
    """Tools as templates print them; what others would have to run is left out, or refused."""
    tools: list[Tool] = []
    namespaces: dict[str, tuple[str, str]] = {}
    for at, item in enumerate(items):
        match item:
            case {"type": "function"}:
                tools.append(_tool(item, _name(item, at)))
            case {"type": "namespace", "name": str(space), "tools": list(inner)}:
                for tool in inner:
                    match tool:
                        case {"type": "function"}:
                            name = _name(tool, at)
                            flat = f"{space}{_SEPARATOR}{name}"
                            namespaces[flat] = (space, name)
                            tools.append(_tool(tool, flat))
                        case _:
                            raise DialectError(400, f"tools[{at}]: a namespace holds functions")
            case {"type": str(kind)} if kind.startswith(_WEB):
                continue
            case {"type": str(kind)}:
                raise unsupported(at, kind)
            case _:
                raise DialectError(400, f"tools[{at}]: invalid tool")
    return tuple(tools), namespaces


def _name(item: Mapping[str, Any], at: int) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise nameless(at)
    return name


def _tool(item: Mapping[str, Any], name: str) -> Tool:
    function = {"name": name, "parameters": item.get("parameters") or _NO_PARAMETERS}
    if description := item.get("description"):
        function["description"] = description
    return {"type": "function", "function": function}


# ------------------------------------------------------------------------------ items


@dataclass(slots=True)
class _Reader:
    """Items so far; a call's name is told again with its output."""

    messages: list[ChatMessage] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    thought: str = ""

    def read(self, item: Any, place: str) -> None:
        """Take in the next item."""
        match item:
            case {"type": "message" | "" | None}:
                self._message(item, place)
            case {"role": str()} if "type" not in item:
                self._message(item, place)
            case {"type": "function_call"}:
                self._call(item, place)
            case {"type": "function_call_output"}:
                self._output(item, place)
            case {"type": "reasoning"}:
                summary, _ = _content(item.get("summary"), f"{place}.summary")
                content, _ = _content(item.get("content"), f"{place}.content")
                self.thought = joined([summary, content])
            case {"type": "web_search_call"}:
                return
            case {"type": str(kind)}:
                raise DialectError(400, f"{place}: unknown input item type: {quote(kind)}")
            case _:
                raise DialectError(400, f'{place}: unknown input item type: ""')

    def _message(self, item: Mapping[str, Any], place: str) -> None:
        text, images = _content(item.get("content"), f"{place}.content")
        said = role(str(item.get("role", "")))
        last = self.messages[-1] if self.messages else None
        if last is not None and said == last.role == "assistant" and last.tool_calls:
            # Said between a call and its output, which has to follow the call.
            whole = {
                "content": joined([last.content, text]),
                "thinking": joined([last.thinking, self._thought(said)]),
            }
            self.messages[-1] = last.model_copy(update=whole)
            return
        self.messages.append(
            ChatMessage(role=said, content=text, images=images, thinking=self._thought(said))
        )

    def _call(self, item: Mapping[str, Any], place: str) -> None:
        name = item.get("name")
        if not isinstance(name, str) or not name:
            raise DialectError(400, f"{place}: a call has no name")
        if space := item.get("namespace"):
            name = f"{space}{_SEPARATOR}{name}"
        call_id = str(item.get("call_id") or item.get("id") or "")
        self.names[call_id] = name
        function = {"name": name, "arguments": item.get("arguments", "")}
        call = tool_call({"id": call_id, "function": function})
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "assistant" and not self.thought:
            calls = (*last.tool_calls, call)
            self.messages[-1] = last.model_copy(update={"tool_calls": calls})
            return
        self.messages.append(
            ChatMessage(role="assistant", tool_calls=(call,), thinking=self._thought("assistant"))
        )

    def _output(self, item: Mapping[str, Any], place: str) -> None:
        text, images = _content(item.get("output"), f"{place}.output")
        call_id = str(item.get("call_id", ""))
        name = self.names.get(call_id, "")
        self.messages.append(
            ChatMessage(
                role="tool", content=text, images=images, tool_name=name, tool_call_id=call_id
            )
        )

    def _thought(self, said: str) -> str:
        if said != "assistant":
            return ""
        thought, self.thought = self.thought, ""
        return thought


def _messages(value: object) -> list[ChatMessage]:
    if isinstance(value, str):
        return [ChatMessage(role="user", content=value)]
    if not isinstance(value, list):
        raise DialectError(400, f"input must be a string or array: it is {go_type(value)}")
    if not value:
        raise DialectError(400, "[] is too short - 'input'")
    reader = _Reader()
    for at, item in enumerate(value):
        reader.read(item, f"input[{at}]")
    return reader.messages


def _content(value: object, place: str) -> tuple[str, tuple[str, ...]]:
    match value:
        case str():
            return value, ()
        case list():
            return _parts(value, place)
        case None:
            return "", ()
        case _:
            raise DialectError(400, f"{place}: must be a string or array")


def _parts(parts: list[Any], place: str) -> tuple[str, tuple[str, ...]]:
    texts: list[str] = []
    images: list[str] = []
    for at, part in enumerate(parts):
        match part:
            case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
                texts.append(text)
            case {"type": "refusal", "refusal": str(text)}:
                texts.append(text)
            case {"type": "input_image", "image_url": str(url)}:
                images.append(image(url))
            case {"type": "input_image" | "input_file" | "input_audio" as kind}:
                raise DialectError(
                    400, f"{place}[{at}]: {kind} is only supported as an image in a data URI"
                )
            case {"type": str(kind)}:
                raise DialectError(400, f"{place}[{at}]: unknown content type: {quote(kind)}")
            case _:
                raise DialectError(400, f"{place}[{at}]: invalid content")
    return joined(texts), tuple(images)
