"""What a request may hold: Ollama's types for Anthropic as tables (contract 1.2, 4), and a few more.

More are the fields `title` of documents and `format` of an output, which Ollama does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rkllama_gateway.dialects.gokinds import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    RAW,
    STRING,
    Kind,
    Number,
    Trail,
    array,
    mapping,
    parsed,
    pointer,
    struct,
)

PACKAGE = "anthropic"


def _struct(go: str, fields: Mapping[str, Kind]) -> Kind:
    return struct(go, fields, package=PACKAGE)


def _text_or(blocks: Kind) -> Kind:
    """A text, or a list of blocks."""

    def take(value: Any, trail: Trail) -> Any:
        is_text = isinstance(value, str) and not isinstance(value, Number)
        return (STRING if is_text else blocks).take(value, trail)

    schema = {"anyOf": [STRING.schema, blocks.schema]}
    return Kind(go=blocks.go, take=take, zero=list, schema=schema)


def _input(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError("tool_use block's 'input' must be an object")


_SOURCE = _struct(
    "ImageSource", {"type": STRING, "media_type": STRING, "data": STRING, "url": STRING}
)

_BLOCK = _struct(
    "ContentBlock",
    {
        "type": STRING,
        "text": STRING,
        "source": pointer(_SOURCE),
        "title": STRING,
        "id": STRING,
        "name": STRING,
        "input": parsed(_input, schema={"type": "object"}),
        "tool_use_id": STRING,
        # A text, blocks, or what a server's own tool found: `messages` takes it apart.
        "content": ANY,
        "is_error": BOOL,
        "thinking": STRING,
        "signature": STRING,
    },
)

_MESSAGE = _struct("MessageParam", {"role": STRING, "content": _text_or(array(_BLOCK))})

_SYSTEM = _text_or(array(_struct("SystemBlock", {"type": STRING, "text": STRING})))

_TOOL = _struct(
    "Tool",
    {
        "type": STRING,
        "name": STRING,
        "description": STRING,
        "input_schema": mapping(ANY),
    },
)

_TOOL_CHOICE = _struct(
    "ToolChoice", {"type": STRING, "name": STRING, "disable_parallel_tool_use": BOOL}
)

_THINKING = _struct("ThinkingConfig", {"type": STRING, "budget_tokens": INT})

_OUTPUT_CONFIG = _struct(
    "OutputConfig",
    {
        "effort": STRING,
        "format": pointer(_struct("OutputFormat", {"type": STRING, "schema": RAW})),
    },
)

_ASKED: Mapping[str, Kind] = {
    "model": STRING,
    "messages": array(_MESSAGE),
    "system": _SYSTEM,
    "tools": array(_TOOL),
    "tool_choice": pointer(_TOOL_CHOICE),
    "thinking": pointer(_THINKING),
    "output_config": pointer(_OUTPUT_CONFIG),
}

MESSAGES = _struct(
    "MessagesRequest",
    {
        **_ASKED,
        "max_tokens": INT,
        "stream": BOOL,
        "temperature": pointer(FLOAT),
        "top_p": pointer(FLOAT),
        "top_k": pointer(INT),
        "stop_sequences": array(STRING),
        "metadata": pointer(_struct("Metadata", {"user_id": STRING})),
    },
)

COUNT_TOKENS = _struct("CountTokensRequest", _ASKED)
