"""What each endpoint's body may hold: Ollama's request types as tables (`api/types.go`)."""

from __future__ import annotations

from typing import Any

from rkllama_gateway.dialects.gobase64 import illegal_byte
from rkllama_gateway.dialects.goduration import keep_alive_s
from rkllama_gateway.dialects.gokinds import (
    ANY,
    BOOL,
    BOOL_POINTER,
    INT,
    RAW,
    STRING,
    array,
    checked,
    decoding_itself,
    mapping,
    parsed,
    struct,
    verbatim,
)
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.rules import THINK_LEVELS

_THINK_TEXT = '"high", "medium", "low", "max", true, or false'


def _think(value: Any) -> bool | str:
    if isinstance(value, str) and value not in THINK_LEVELS:
        raise ValueError(f"invalid think value: {quote(value)} (must be {_THINK_TEXT})")
    if isinstance(value, bool | str):
        return value
    raise ValueError(f"think must be a boolean or string ({_THINK_TEXT})")


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError("Value looks like object, but can't find closing '}' symbol")


def _image(text: str) -> str | None:
    at = illegal_byte(text)
    return None if at is None else f"illegal base64 data at input byte {at}"


_OBJECT = {"type": "object"}

KEEP_ALIVE = parsed(keep_alive_s, schema={"type": ["number", "string"]})
THINK = parsed(_think, schema={"enum": [True, False, *THINK_LEVELS]}, of=RAW)
IMAGES = array(
    checked(_image, go="api.ImageData", schema={"type": "string", "contentEncoding": "base64"}),
    go="[]api.ImageData",
)
OPTIONS = mapping(ANY)

TOOL_CALL = struct(
    "ToolCall",
    {
        "id": STRING,
        "function": struct(
            "ToolCallFunction",
            {"index": INT, "name": STRING, "arguments": parsed(_arguments, schema=_OBJECT)},
        ),
    },
)

MESSAGE = decoding_itself(
    struct(
        "Message",
        {
            "role": STRING,
            "content": STRING,
            "thinking": STRING,
            "images": IMAGES,
            "tool_calls": array(TOOL_CALL),
            "tool_name": STRING,
            "tool_call_id": STRING,
        },
    ),
    go="api.Alias",
)

# A template gets the whole JSON schema, so that tools are taken as they came once they fit.
TOOL = verbatim(
    struct(
        "Tool",
        {
            "type": STRING,
            "function": struct(
                "ToolFunction",
                {
                    "name": STRING,
                    "description": STRING,
                    "parameters": struct(
                        "ToolFunctionParameters",
                        {
                            "type": STRING,
                            "required": array(STRING),
                            "properties": parsed(_arguments, schema=_OBJECT),
                        },
                    ),
                },
            ),
        },
    )
)

_INFERENCE = {
    "model": STRING,
    "stream": BOOL_POINTER,
    "format": RAW,
    "keep_alive": KEEP_ALIVE,
    "options": OPTIONS,
    "think": THINK,
    "truncate": BOOL_POINTER,
    "shift": BOOL_POINTER,
    "_debug_render_only": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
}

CHAT = struct(
    "ChatRequest",
    _INFERENCE | {"messages": array(MESSAGE), "tools": array(TOOL, go="api.Tools")},
)

GENERATE = struct(
    "GenerateRequest",
    _INFERENCE
    | {
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": array(INT),
        "raw": BOOL,
        "images": IMAGES,
    },
)

EMBED = struct(
    "EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "keep_alive": KEEP_ALIVE,
        "truncate": BOOL_POINTER,
        "dimensions": INT,
        "options": OPTIONS,
    },
)

EMBEDDINGS = struct(
    "EmbeddingRequest",
    {"model": STRING, "prompt": STRING, "keep_alive": KEEP_ALIVE, "options": OPTIONS},
)

SHOW = struct(
    "ShowRequest",
    {
        "model": STRING,
        "name": STRING,
        "system": STRING,
        "template": STRING,
        "verbose": BOOL,
        "options": OPTIONS,
    },
)

PULL = struct(
    "PullRequest",
    {
        "model": STRING,
        "name": STRING,
        "insecure": BOOL,
        "username": STRING,
        "password": STRING,
        "stream": BOOL_POINTER,
    },
)

PUSH = struct(
    "PushRequest",
    {
        "model": STRING,
        "name": STRING,
        "insecure": BOOL,
        "username": STRING,
        "password": STRING,
        "stream": BOOL_POINTER,
    },
)

DRAIN = struct("DrainRequest", {"worker": STRING})

VERIFY = struct("VerifyRequest", {"model": STRING, "name": STRING, "stream": BOOL_POINTER})

COPY = struct("CopyRequest", {"source": STRING, "destination": STRING})

DELETE = struct("DeleteRequest", {"model": STRING, "name": STRING})

CREATE = struct(
    "CreateRequest",
    {
        "model": STRING,
        "name": STRING,
        "stream": BOOL_POINTER,
        "quantize": STRING,
        "quantization": STRING,
        "draft_quantize": STRING,
        "from": STRING,
        "remote_host": STRING,
        "files": mapping(STRING),
        "draft_files": mapping(STRING),
        "adapters": mapping(STRING),
        "template": STRING,
        "license": ANY,
        "system": STRING,
        "parameters": OPTIONS,
        "messages": array(MESSAGE),
        "renderer": STRING,
        "parser": STRING,
        "requires": STRING,
        "info": OPTIONS,
        # Ours: the repository of the tokenizer (HUGGINGFACE_PATH in the predecessor's Modelfiles).
        "tokenizer_repo": STRING,
    },
)
