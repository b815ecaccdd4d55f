"""Whatever JSON comes to OpenAI's endpoints, it is a request, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openai import bodies
from rkllama_gateway.dialects.openai.inputs import parse_response
from rkllama_gateway.dialects.openai.jobs import embed_job, run_job
from rkllama_gateway.dialects.openai.requests import (
    Embedding,
    parse_chat,
    parse_completion,
    parse_embedding,
)
from rkllama_protocol import codec
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel

ABLE = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest="sha256:" + "1" * 64,
    size=1,
    modified_at="2026-01-02T03:04:05Z",
    details=ModelDetails(),
    capabilities=("completion", "tools", "thinking", "vision", "insert"),
)
KEYS = st.sampled_from(
    [
        *("type", "role", "content", "text", "name", "function", "arguments", "parameters", "id"),
        *("tools", "mode", "allowed_tools", "summary", "output", "call_id", "namespace", "effort"),
        *("image_url", "url", "format", "schema", "json_schema", "tool_calls", "include_usage"),
    ]
)
TEXTS = st.sampled_from(
    [
        *("", "x", "user", "text", "function", "function_call", "function_call_output", "message"),
        *("reasoning", "namespace", "json_schema", "json_object", "required", "auto", "input_text"),
        *("allowed_tools", "image_url", "data:;base64,AAAA", "{}", "tool", "input_image", "low"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


def requests(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    names = sorted(kind.schema["properties"])
    return st.dictionaries(st.sampled_from(names), JSON, max_size=5)


def made(body: bytes, parse: Any) -> Job | DialectError:
    try:
        asked = parse(body)
        asked = getattr(asked, "run", asked)
        facts: Any = {"job_id": "j", "now": "2026-01-02T03:04:05Z", "seed": 1}
        if isinstance(asked, Embedding):
            return embed_job(asked, ABLE, **facts)
        return run_job(asked, ABLE, **facts)
    except DialectError as error:
        return error


def run(body: bytes, parse: Any) -> None:
    outcome = made(body, parse)
    if isinstance(outcome, DialectError):
        assert 400 <= outcome.status < 500, outcome.message
    else:
        assert codec.decode(Job, codec.encode(outcome)) == outcome


@pytest.mark.parametrize(
    ("kind", "parse", "given_fields"),
    [
        (bodies.CHAT, parse_chat, {"messages": [{"role": "user", "content": "x"}]}),
        (bodies.COMPLETION, parse_completion, {"prompt": "x"}),
        (bodies.EMBEDDING, parse_embedding, {"input": "x"}),
        (bodies.RESPONSES, parse_response, {"input": "x"}),
    ],
    ids=["chat", "completion", "embedding", "response"],
)
@given(data=st.data())
def test_it_is_a_request_or_refused(
    kind: Any, parse: Any, given_fields: dict[str, Any], data: st.DataObject
) -> None:
    fields = data.draw(requests(kind))

    run(json.dumps(fields).encode(), parse)
    run(json.dumps(given_fields | fields).encode(), parse)
    run(json.dumps(fields | given_fields).encode(), parse)


@given(items=st.lists(JSON, max_size=4), tools=st.lists(JSON, max_size=3), choice=JSON)
def test_items_and_tools_are_read_or_refused(
    items: list[Any], tools: list[Any], choice: Any
) -> None:
    run(
        json.dumps({"input": items or "x", "tools": tools, "tool_choice": choice}).encode(),
        parse_response,
    )
    run(json.dumps({"messages": items, "tools": tools, "tool_choice": choice}).encode(), parse_chat)
