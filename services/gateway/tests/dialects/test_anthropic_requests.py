"""Bodies of `/v1/messages` and of counting: what is taken, what is refused and how (contract 1.2, 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_gateway.dialects.anthropic.requests import (
    MessageRequest,
    parse_count,
    parse_messages,
)
from rkllama_gateway.dialects.anthropic.tools import Offered
from rkllama_gateway.dialects.errors import DialectError
from rkllama_protocol.messages import ChatMessage

HI = [{"role": "user", "content": "Hi"}]
BODY: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": HI}
PNG = "iVBORw=="
ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "required": ["a"]}}
SUB = {"name": "sub", "type": "custom"}
ADD_OUT = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {}, "required": ["a"]},
    },
}
SUB_OUT = {
    "type": "function",
    "function": {"name": "sub", "parameters": {"type": "object", "properties": {}}},
}


def asked(**fields: Any) -> MessageRequest:
    return parse_messages(json.dumps(BODY | fields).encode())


def said(*blocks: dict[str, Any], role: str = "user", **fields: Any) -> tuple[ChatMessage, ...]:
    return asked(messages=[{"role": role, "content": list(blocks)}], **fields).messages


def user(text: str, **facts: Any) -> ChatMessage:
    return ChatMessage(role="user", content=text, **facts)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}}


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


PLAIN = image(type="base64", media_type="image/png", data=PNG)
DOCUMENT = {"type": "document", "title": "T", "source": {"type": "text", "data": "d"}}


def test_the_least_that_is_a_request() -> None:
    request = asked()

    assert (request.model, request.name.full) == ("m", "registry.ollama.ai/library/m:latest")
    assert request.messages == (user("Hi"),)
    assert request.options == {"num_predict": 9}
    assert (request.stream, request.count_only) == (False, False)
    assert (request.think, request.format, request.offered) == (None, None, Offered())


def test_what_is_said_of_sampling_goes_on_and_nothing_else() -> None:
    """Contract 4: the model's own values are used otherwise."""
    request = asked(
        temperature=0,
        top_p=0.5,
        top_k=3,
        stop_sequences=["END", "\n"],
        stream=True,
        metadata={"user_id": "u"},
        service_tier="auto",
    )

    assert request.options == {
        "num_predict": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["END", "\n"],
    }
    assert request.stop_sequences == ("END", "\n")
    assert request.stream
    assert "stop" not in asked(stop_sequences=[]).options


def test_bodies_are_decoded_as_go_does() -> None:
    body = b'{"MODEL":"m","max_tokens":1,"system":null,"tools":null,"messages":[{"Role":"User","content":"x"}]} more'

    assert parse_messages(body).messages == (user("x"),)


@pytest.mark.parametrize(
    ("system", "messages"),
    [
        ("Be brief.", ("Be brief.",)),
        ([text("Be "), text("brief.")], ("Be brief.",)),
        ("", ()),
        ([], ()),
    ],
)
def test_the_system_prompt_stands_first(system: Any, messages: tuple[str, ...]) -> None:
    expected = tuple(ChatMessage(role="system", content=one) for one in messages)

    assert asked(system=system).messages == (*expected, user("Hi"))


@pytest.mark.parametrize(
    ("role", "blocks", "messages"),
    [
        ("user", [text("a"), text("b")], [user("ab")]),
        ("user", [PLAIN, text("a")], [user("a", images=(PNG,))]),
        ("user", [image(type="base64", data="iVBO\nRw==")], [user("", images=(PNG,))]),
        ("user", [DOCUMENT, text("!")], [user("T\n\nd!")]),
        ("user", [DOCUMENT | {"title": None}], [user("d")]),
        ("system", [text("a")], [ChatMessage(role="system", content="a")]),
        (
            "assistant",
            [{"type": "thinking", "thinking": "hm", "signature": "s"}, text("a")],
            [ChatMessage(role="assistant", content="a", thinking="hm")],
        ),
        (
            "assistant",
            [{"type": "redacted_thinking", "data": "x"}, text("a")],
            [ChatMessage(role="assistant", content="a")],
        ),
        (
            "assistant",
            [
                text("a"),
                {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "now"},
            ],
            [
                ChatMessage(
                    role="assistant",
                    content="a",
                    tool_calls=(
                        {"id": "1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}},
                        {"id": "2", "function": {"index": 1, "name": "now", "arguments": {}}},
                    ),
                )
            ],
        ),
        (
            "user",
            [
                text("and?"),
                {"type": "tool_result", "tool_use_id": "1", "content": "8"},
                {
                    "type": "tool_result",
                    "tool_use_id": "2",
                    "content": [text("9"), PLAIN, DOCUMENT],
                },
                {"type": "tool_result", "tool_use_id": "3", "is_error": True},
            ],
            [
                ChatMessage(role="tool", content="8", tool_call_id="1"),
                ChatMessage(role="tool", content="9T\n\nd", images=(PNG,), tool_call_id="2"),
                ChatMessage(role="tool", tool_call_id="3"),
                user("and?"),
            ],
        ),
        (
            "assistant",
            [
                {
                    "type": "server_tool_use",
                    "id": "s",
                    "name": "web_search",
                    "input": {"query": "q"},
                },
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": [{"type": "web_search_result", "title": "T", "url": "U"}],
                },
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "t",
                    "content": {"type": "web_search_tool_result_error", "error_code": "late"},
                },
                {"type": "web_search_tool_result", "tool_use_id": "u", "content": "As text."},
                {"type": "web_search_tool_result", "tool_use_id": "v"},
            ],
            [
                ChatMessage(
                    role="assistant",
                    tool_calls=(
                        {
                            "id": "s",
                            "function": {
                                "index": 0,
                                "name": "web_search",
                                "arguments": {"query": "q"},
                            },
                        },
                    ),
                ),
                ChatMessage(role="tool", content="- T: U\n", tool_call_id="s"),
                ChatMessage(
                    role="tool", content="web_search_tool_result_error: late", tool_call_id="t"
                ),
                ChatMessage(role="tool", content="As text.", tool_call_id="u"),
                ChatMessage(role="tool", content="web_search_tool_result_error", tool_call_id="v"),
            ],
        ),
    ],
)
def test_blocks_become_messages(
    role: str, blocks: list[dict[str, Any]], messages: list[ChatMessage]
) -> None:
    """Results stand before the text of their turn (contract 4)."""
    assert said(*blocks, role=role) == tuple(messages)


def test_a_turn_with_nothing_in_it_is_left_out() -> None:
    assert asked(messages=[*HI, {"role": "assistant", "content": ""}]).messages == (user("Hi"),)


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, False),
        ({"output_config": {"effort": " XHigh "}}, "high"),
        ({"output_config": {"effort": "max"}}, "max"),
        ({"output_config": {"effort": "bogus"}}, None),
    ],
)
def test_thinking_comes_before_effort(fields: dict[str, Any], think: bool | str | None) -> None:
    assert asked(**fields).think is think or asked(**fields).think == think


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, Offered(tools=(ADD_OUT, SUB_OUT))),
        ({"type": "auto"}, Offered(tools=(ADD_OUT, SUB_OUT))),
        ({"type": "none"}, Offered()),
        ({"type": "any"}, Offered(tools=(ADD_OUT, SUB_OUT), forced=("add", "sub"))),
        ({"type": "tool", "name": "sub"}, Offered(tools=(ADD_OUT, SUB_OUT), forced=("sub",))),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            Offered(tools=(ADD_OUT, SUB_OUT), one_call=True),
        ),
    ],
)
def test_a_choice_among_tools(choice: dict[str, Any] | None, offered: Offered) -> None:
    assert asked(tools=[ADD, SUB], tool_choice=choice).offered == offered


def test_a_schema_is_the_format() -> None:
    """The SDK's `parse` sends it."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

    assert (
        asked(output_config={"format": {"type": "json_schema", "schema": schema}}).format == schema
    )


def test_counting_needs_no_max_tokens() -> None:
    body = {"model": "m", "messages": HI, "system": "s", "tools": [ADD]}
    request = parse_count(json.dumps(body).encode())

    assert request.messages == (ChatMessage(role="system", content="s"), user("Hi"))
    assert request.offered.tools == (ADD_OUT,)
    assert (request.count_only, request.stream, request.options) == (True, False, {})


NO_TOOLS = "tool_choice asks for a call, but there are no tools"
GO, FIELD = "json: cannot unmarshal", "Go struct field"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model is required"),
    ({"model": "", "max_tokens": 0}, "model is required"),
    ({"model": "a b"}, "invalid model name"),
    ({"max_tokens": 0, "messages": []}, "max_tokens is required and must be positive"),
    ({"max_tokens": -1}, "max_tokens is required and must be positive"),
    ({"messages": []}, "messages is required"),
    ({"messages": None}, "messages is required"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages must have non-empty content"),
    ({"system": [PLAIN]}, 'system: unsupported content block type "image"'),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        'messages: unexpected role "tool"; allowed are "user", "assistant", "system"',
    ),
    ({"model": 1}, f"{GO} number into {FIELD} MessagesRequest.model of type string"),
    (
        {"messages": [{"role": "user", "content": 1}]},
        f"{GO} number into {FIELD} MessageParam.messages.content of type []anthropic.ContentBlock",
    ),
    ({"tools": [{"type": "custom"}]}, "tools: a tool has no name"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        'tools: type "web_search_20250305" is not supported by this server',
    ),
    ({"tool_choice": {"type": "any"}}, NO_TOOLS),
    (
        {"tool_choice": {"type": "tool", "name": "x"}, "tools": [ADD]},
        'tool_choice names no tool: "x"',
    ),
    (
        {"tool_choice": {"type": "some"}},
        'invalid tool_choice type: "some" (must be "auto", "any", "tool", or "none")',
    ),
    (
        {"output_config": {"format": {"type": "xml"}}},
        'invalid output_config.format type: "xml" (must be "json_schema")',
    ),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": []}}},
        "output_config.format: the schema is no object",
    ),
]
WRONG_BLOCKS: list[tuple[dict[str, Any], str]] = [
    (
        image(type="url", url="http://x"),
        "invalid image source type: url. Only base64 images are supported.",
    ),
    ({"type": "image"}, "invalid image source"),
    (
        image(type="base64", data="data:x"),
        "invalid base64 image data: illegal base64 data at input byte 4",
    ),
    (
        {"type": "tool_use", "name": "x", "input": {}},
        "tool_use block missing required 'id' field",
    ),
    ({"type": "tool_use", "id": "1"}, "tool_use block missing required 'name' field"),
    (
        {"type": "tool_use", "id": "1", "name": "x", "input": "{}"},
        "tool_use block's 'input' must be an object",
    ),
    (
        {"type": "tool_result", "content": 1},
        "tool_result block's 'content' must be a string or an array",
    ),
    (
        {"type": "tool_result", "content": [{"type": "audio"}]},
        'tool_result: unsupported content block type "audio"',
    ),
    (
        {"type": "tool_result", "content": ["x"]},
        'tool_result: unsupported content block type ""',
    ),
    (
        {"type": "tool_result", "content": [image(type="base64", data=1)]},
        "invalid image source",
    ),
    (
        {"type": "document", "source": {"type": "base64", "data": PNG}},
        "invalid document source type: base64. Only plain text documents are supported.",
    ),
    ({"type": "document"}, "invalid document source"),
    ({"type": "container_upload"}, 'messages: unsupported content block type "container_upload"'),
]


@pytest.mark.parametrize(
    ("fields", "message"),
    [*REFUSED, *(({"messages": [{"role": "user", "content": [b]}]}, m) for b, m in WRONG_BLOCKS)],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DialectError) as refused:
        asked(**fields)

    assert (refused.value.status, refused.value.message) == (400, message)


@pytest.mark.parametrize("parse", [parse_messages, parse_count])
@pytest.mark.parametrize(("body", "message"), [(b"", "EOF"), (b"{", "unexpected EOF")])
def test_no_body_is_eof(parse: Any, body: bytes, message: str) -> None:
    """Contract 1.2 for /v1."""
    with pytest.raises(DialectError, match=f"^{message}$"):
        parse(body)


def test_a_whole_request_of_claude_code() -> None:
    """In the shape that it sends: blocks everywhere, schemas with everything, and fields of betas."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "edits": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"old": {"type": "string"}, "all": {"type": "boolean"}},
                    "required": ["old"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["edits"],
        "additionalProperties": False,
    }
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    fields = {
        "model": "m",
        "max_tokens": 32_000,
        "stream": True,
        "metadata": {"user_id": "user_1_account__session_2"},
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "service_tier": "auto",
        "system": [
            {"type": "text", "text": "You are an agent."},
            {"type": "text", "text": " Be brief.", **cached},
        ],
        "tools": [
            {"name": "Edit", "description": "d", "input_schema": schema, "strict": True, **cached}
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>r</system-reminder>\n"},
                    {"type": "text", "text": "Edit it.", **cached},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "I do."},
                    {"type": "tool_use", "id": "c", "name": "Edit", "input": {"edits": []}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "is_error": True,
                        "content": [{"type": "text", "text": "nothing to edit"}],
                        **cached,
                    },
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
    }
    asked = parse_messages(json.dumps(fields).encode())

    assert [message.role for message in asked.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert asked.messages[0].content == "You are an agent. Be brief."
    assert asked.messages[2].thinking == "hm"
    assert asked.offered.tools[0]["function"]["parameters"] == schema
    assert (asked.think, asked.stream, asked.options) == ("medium", True, {"num_predict": 32_000})
