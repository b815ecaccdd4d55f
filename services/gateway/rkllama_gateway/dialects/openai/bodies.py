"""What each endpoint's body may hold: Ollama's request types for OpenAI as tables (contract 1.2, 3)."""

from __future__ import annotations

from rkllama_gateway.dialects.gokinds import (
    ANY,
    BOOL,
    FLOAT,
    INT,
    RAW,
    STRING,
    Kind,
    array,
    mapping,
    pointer,
    struct,
    verbatim,
)

PACKAGE = "openai"

_FLAG = pointer(BOOL)
_COUNT = pointer(INT)
_REAL = pointer(FLOAT)


def _struct(go: str, fields: dict[str, Kind]) -> Kind:
    return struct(go, fields, package=PACKAGE)


_STREAM_OPTIONS = _struct("StreamOptions", {"include_usage": BOOL})

_TOOL_CALL = _struct(
    "ToolCall",
    {
        "id": STRING,
        "index": INT,
        "type": STRING,
        "function": _struct("ToolCallFunction", {"name": STRING, "arguments": STRING}),
    },
)

_MESSAGE = _struct(
    "Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "tool_calls": array(_TOOL_CALL),
        "name": STRING,
        "tool_call_id": STRING,
    },
)

# A template gets the whole JSON schema, so that tools are taken as they came once they fit.
_TOOL = verbatim(
    _struct(
        "Tool",
        {
            "type": STRING,
            "function": _struct(
                "ToolFunction",
                {"name": STRING, "description": STRING, "parameters": mapping(ANY)},
            ),
        },
    )
)

_RESPONSE_FORMAT = _struct(
    "ResponseFormat",
    {"type": STRING, "json_schema": _struct("JsonSchema", {"schema": RAW})},
)

CHAT = _struct(
    "ChatCompletionRequest",
    {
        "model": STRING,
        "messages": array(_MESSAGE),
        "stream": BOOL,
        "stream_options": pointer(_STREAM_OPTIONS),
        "max_tokens": _COUNT,
        "max_completion_tokens": _COUNT,
        "seed": _COUNT,
        "stop": ANY,
        "temperature": _REAL,
        "top_p": _REAL,
        "frequency_penalty": _REAL,
        "presence_penalty": _REAL,
        "response_format": pointer(_RESPONSE_FORMAT),
        "tools": array(_TOOL, go="[]api.Tool"),
        "tool_choice": ANY,
        "parallel_tool_calls": _FLAG,
        "reasoning": pointer(_struct("Reasoning", {"effort": STRING})),
        "reasoning_effort": pointer(STRING),
        "logprobs": _FLAG,
        "top_logprobs": INT,
        "n": _COUNT,
        "_debug_render_only": BOOL,
    },
)

COMPLETION = _struct(
    "CompletionRequest",
    {
        "model": STRING,
        "prompt": STRING,
        "suffix": STRING,
        "stream": BOOL,
        "stream_options": pointer(_STREAM_OPTIONS),
        "max_tokens": _COUNT,
        "seed": _COUNT,
        "stop": ANY,
        "temperature": _REAL,
        "top_p": FLOAT,
        "frequency_penalty": FLOAT,
        "presence_penalty": FLOAT,
        "logprobs": _COUNT,
        "n": _COUNT,
        "_debug_render_only": BOOL,
    },
)

EMBEDDING = _struct(
    "EmbedRequest",
    {"model": STRING, "input": ANY, "dimensions": INT, "encoding_format": STRING},
)

RESPONSES = _struct(
    "ResponsesRequest",
    {
        "model": STRING,
        "input": RAW,
        "instructions": STRING,
        "max_output_tokens": _COUNT,
        "temperature": _REAL,
        "top_p": _REAL,
        "tools": array(RAW),
        "tool_choice": ANY,
        "parallel_tool_calls": _FLAG,
        "text": pointer(
            _struct(
                "ResponsesText",
                {
                    "format": pointer(
                        _struct(
                            "ResponsesTextFormat",
                            {"type": STRING, "name": STRING, "schema": RAW, "strict": _FLAG},
                        )
                    )
                },
            )
        ),
        "reasoning": pointer(_struct("ResponsesReasoning", {"effort": STRING, "summary": STRING})),
        "include": array(STRING),
        "top_logprobs": INT,
        "metadata": mapping(ANY),
        "truncation": pointer(STRING),
        "stream": BOOL,
    },
)
