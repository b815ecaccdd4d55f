"""Messages of a chat as OpenAI has them: content in parts, arguments as text (contract 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rkllama_protocol.messages import ChatMessage

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gobase64 import illegal_byte

INVALID_FORMAT = "invalid message format"
NO_AUDIO = "audio input is not supported"

_DATA_URI = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?;base64,", re.IGNORECASE)
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_ROLES = {"developer": "system"}
"""OpenAI's newer name; most templates would leave out what has a role they do not know."""

_GO_TYPES = {bool: "bool", int: "float64", float: "float64", str: "string"}


def go_type(value: object) -> str:
    """What Go calls the type of a JSON value."""
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        return "map[string]interface {}"
    return _GO_TYPES.get(type(value), "[]interface {}")


def role(text: str) -> str:
    """The role as templates know it."""
    lower = text.lower()
    return _ROLES.get(lower, lower)


def conversation(items: Iterable[Mapping[str, Any]]) -> tuple[ChatMessage, ...]:
    """The messages of a chat.

    Raises:
        DialectError: A content, an image or a call's arguments cannot be read.
    """
    names: dict[str, str] = {}
    messages = []
    for item in items:
        calls = tuple(tool_call(call) for call in item.get("tool_calls", ()))
        names |= {call["id"]: call["function"]["name"] for call in calls if call["id"]}
        call_id = item.get("tool_call_id", "")
        text, images = _content(item.get("content"), optional=bool(calls))
        messages.append(
            ChatMessage(
                role=role(item.get("role", "")),
                content=text,
                thinking=item.get("reasoning", ""),
                images=images,
                tool_calls=calls,
                tool_name=item.get("name", "") or names.get(call_id, ""),
                tool_call_id=call_id,
            )
        )
    return tuple(messages)


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of the history as templates print it, its arguments an object.

    Raises:
        DialectError: The arguments are none.
    """
    function = call.get("function", {})
    try:
        arguments = orjson.loads(function.get("arguments", "") or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise DialectError(400, "invalid tool call arguments")
    called = {"name": function.get("name", ""), "arguments": arguments}
    return {"id": call.get("id", ""), "type": "function", "function": called}


def image(url: object) -> str:
    """The base64 of an image that came as a data URI.

    Raises:
        DialectError: It came otherwise.
    """
    if not isinstance(url, str):
        raise DialectError(400, INVALID_FORMAT)
    if _REMOTE.match(url):
        raise DialectError(
            400,
            "image URLs are not currently supported, please use base64 encoded data instead",
        )
    found = _DATA_URI.match(url)
    if found is None or illegal_byte(data := url[found.end() :]) is not None:
        raise DialectError(400, "invalid image input")
    return data.replace("\n", "").replace("\r", "")


def joined(texts: Iterable[str]) -> str:
    """Text parts as one text, as Ollama joins the messages it makes of them (contract 2.8)."""
    return "\n\n".join(text for text in texts if text)


def _content(value: object, *, optional: bool) -> tuple[str, tuple[str, ...]]:
    match value:
        case str():
            return value, ()
        case list():
            return _parts(value)
        case None if optional:
            return "", ()
        case _:
            raise DialectError(400, f"invalid message content type: {go_type(value)}")


def _parts(parts: list[Any]) -> tuple[str, tuple[str, ...]]:
    texts: list[str] = []
    images: list[str] = []
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "refusal", "refusal": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": url}} | {
                "type": "image_url",
                "image_url": url,
            }:
                images.append(image(url))
            case {"type": "input_audio"}:
                raise DialectError(400, NO_AUDIO)
            case _:
                raise DialectError(400, INVALID_FORMAT)
    return joined(texts), tuple(images)
