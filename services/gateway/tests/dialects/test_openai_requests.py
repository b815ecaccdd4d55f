"""OpenAI's requests: from bytes to jobs (contract 1.2, 1.5, 3.1, 3.2, 3.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openai.jobs import embed_job, run_job
from rkllama_gateway.dialects.openai.requests import (
    parse_chat,
    parse_completion,
    parse_embedding,
    target,
)
from rkllama_protocol.messages import ChatMessage, Job, ModelDetails, ResolvedModel

NOW = "2026-01-02T03:04:05Z"
PIXEL = "iVBORw0KGgo="
HI = [{"role": "user", "content": "hi"}]
ALL = ("completion", "tools", "thinking", "vision", "insert")
SCHEMA = {"type": "object"}


def model(*capabilities: str, **facts: Any) -> ResolvedModel:
    return ResolvedModel(
        name="m:latest",
        full_name="registry.ollama.ai/library/m:latest",
        digest="sha256:" + "1" * 64,
        size=1,
        modified_at=NOW,
        details=ModelDetails(format="gguf"),
        capabilities=capabilities,
        **facts,
    )


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def chat(able: ResolvedModel | None = None, **fields: Any) -> Job:
    asked = parse_chat(body(**{"messages": HI, **fields}))
    return run_job(asked, able or model(*ALL), job_id="j", now=NOW, seed=9)


def completion(able: ResolvedModel | None = None, **fields: Any) -> Job:
    asked = parse_completion(body(**{"prompt": "hi", **fields}))
    return run_job(asked, able or model(*ALL), job_id="j", now=NOW, seed=9)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, "strict": True}}


# ------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"{", "unexpected EOF"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (
            b"[]",
            "json: cannot unmarshal array into Go value of type openai.ChatCompletionRequest",
        ),
        (
            b'{"model":1}',
            (
                "json: cannot unmarshal number into Go struct field "
                "ChatCompletionRequest.model of type string"
            ),
        ),
        (
            b'{"temperature":"hot"}',
            (
                "json: cannot unmarshal string into Go struct field "
                "ChatCompletionRequest.temperature of type float64"
            ),
        ),
        (
            b'{"top_p":1e999}',
            (
                "json: cannot unmarshal number 1e999 into Go struct field "
                "ChatCompletionRequest.top_p of type float64"
            ),
        ),
        (b"null", "[] is too short - 'messages'"),
        (b'{"messages":[]}', "[] is too short - 'messages'"),
    ],
)
def test_bad_bodies_have_gos_words(text: bytes, words: str) -> None:
    with pytest.raises(DialectError) as caught:
        parse_chat(text)

    assert (caught.value.status, caught.value.message) == (400, words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{"role": "user", "content": 1}]}, "invalid message content type: float64"),
        ({"messages": [{"role": "user"}]}, "invalid message content type: <nil>"),
        (
            {"messages": [{"role": "user", "content": {}}]},
            "invalid message content type: map[string]interface {}",
        ),
        ({"messages": [{"content": ["x"]}]}, "invalid message format"),
        ({"messages": [{"content": [{"type": "zzz"}]}]}, "invalid message format"),
        ({"messages": [{"content": [{"type": "text"}]}]}, "invalid message format"),
        (
            {"messages": [{"content": [{"type": "image_url", "image_url": "http://x/y.png"}]}]},
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "invalid image input",
        ),
        (
            {"messages": [{"content": [{"type": "image_url", "image_url": 3}]}]},
            "invalid message format",
        ),
        (
            {"messages": [{"content": [{"type": "input_audio", "input_audio": {}}]}]},
            "audio input is not supported",
        ),
        (
            {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "invalid tool call arguments",
        ),
        (
            {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}]},
            "invalid tool call arguments",
        ),
        ({"n": 2}, "n must be 1: this server makes one choice for a request"),
        ({"n": 0}, "n must be 1: this server makes one choice for a request"),
        ({"stop": 1}, "invalid type for 'stop' field: float64"),
        ({"stop": ["a", None]}, "invalid type for 'stop' field: <nil>"),
        (
            {"reasoning_effort": "bogus"},
            (
                'invalid reasoning value: "bogus" (must be "minimal", "low", "medium", "high", '
                '"xhigh", "ultra", "max", or "none")'
            ),
        ),
        (
            {"response_format": {"type": "xml"}},
            'invalid response_format type: "xml" (must be "text", "json_object", or "json_schema")',
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema must be a JSON schema object",
        ),
        ({"tool_choice": "required"}, "tool_choice asks for a call, but there are no tools"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [tool("f")]},
            'tool_choice names no tool: "g"',
        ),
        (
            {"tool_choice": "perhaps"},
            'invalid tool_choice (must be "none", "auto", "required", or name a function)',
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{}]},
                }
            },
            "invalid tool_choice: an allowed tool has no name",
        ),
        # What could never be called is not told to the model.
        ({"tools": [tool("")]}, "tools[0]: a tool has no name"),
        ({"tools": [tool("f"), None, {"type": "function"}]}, "tools[2]: a tool has no name"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
            'tools[0]: unsupported tool type: "custom"',
        ),
    ],
)
def test_what_is_no_chat_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DialectError) as caught:
        chat(**fields)

    assert (caught.value.status, caught.value.message) == (400, words)


# ------------------------------------------------------------------------------ chat


def test_openais_defaults_come_before_the_models_and_are_not_asked_for() -> None:
    """Contract 3.1: temperature and top_p are 1.0 whatever the model says."""
    job = chat(model("completion", parameters={"temperature": 0.1, "top_k": 5, "num_ctx": 99}))

    assert (job.sampling.temperature, job.sampling.top_p, job.sampling.top_k) == (1.0, 1.0, 5)
    assert (job.sampling.seed, job.asked_options, job.num_ctx) == (9, ("top_k",), 99)
    assert (job.kind, job.keep_alive_s, job.num_predict) == ("chat", None, -1)


def test_what_was_asked_for_arrives() -> None:
    job = chat(
        temperature=0,
        top_p=0.5,
        seed=3,
        frequency_penalty=0.25,
        presence_penalty=-1,
        max_tokens=5,
        stop=["a", "b"],
    )

    assert job.sampling.model_dump(include={"temperature", "top_p", "seed"}) == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
    }
    assert (job.sampling.frequency_penalty, job.sampling.presence_penalty) == (0.25, -1)
    assert (job.num_predict, job.stop) == (5, ("a", "b"))
    assert job.asked_options == (
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "temperature",
        "top_p",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": None}, -1),
    ],
)
def test_the_newer_name_of_the_limit_wins(fields: dict[str, Any], expected: int) -> None:
    """Contract 8.3."""
    assert chat(**fields).num_predict == expected


@pytest.mark.parametrize(
    ("said", "stop"), [("x", ("x",)), (["x", "y"], ("x", "y")), ("", ()), (None, ()), ([], ())]
)
def test_stop_is_a_text_or_a_list(said: Any, stop: tuple[str, ...]) -> None:
    assert chat(stop=said).stop == stop


def test_without_a_stop_the_models_own_counts() -> None:
    assert chat(model("completion", parameters={"stop": ["</s>"]})).stop == ("</s>",)


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "ultra"}}, "max"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "high"),
    ],
)
def test_efforts_are_ways_to_think(fields: dict[str, Any], think: bool | str) -> None:
    assert chat(**fields).think == think


@pytest.mark.parametrize(
    ("fields", "capabilities", "words"),
    [
        ({"reasoning_effort": "low"}, ("completion",), '"m" does not support thinking'),
        ({}, ("embedding",), '"m" does not support chat'),
        (
            {"tools": [tool("f")]},
            ("completion",),
            "registry.ollama.ai/library/m:latest does not support tools",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": f"data:;base64,{PIXEL}"}],
                    }
                ]
            },
            ("completion",),
            "registry.ollama.ai/library/m:latest does not support vision",
        ),
    ],
)
def test_what_a_model_cannot_do_is_told(
    fields: dict[str, Any], capabilities: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DialectError) as caught:
        chat(model(*capabilities), **fields)

    assert (caught.value.status, caught.value.message) == (400, words)


def test_no_effort_and_tools_that_are_not_to_be_used_need_no_capability() -> None:
    job = chat(model("completion"), reasoning_effort="none", tools=[tool("f")], tool_choice="none")

    assert (job.think, job.tools, job.forced_tools) == (False, (), ())


@pytest.mark.parametrize(
    ("choice", "tools", "forced"),
    [
        (None, ("f", "g"), ()),
        ("auto", ("f", "g"), ()),
        ("none", (), ()),
        ("required", ("f", "g"), ("f", "g")),
        ({"type": "function", "function": {"name": "g"}}, ("f", "g"), ("g",)),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [tool("g")]},
            },
            ("g",),
            (),
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [tool("g")]},
            },
            ("g",),
            ("g",),
        ),
    ],
)
def test_a_choice_of_tools_is_honoured(
    choice: Any, tools: tuple[str, ...], forced: tuple[str, ...]
) -> None:
    job = chat(tools=[tool("f"), tool("g")], tool_choice=choice)

    assert tuple(each["function"]["name"] for each in job.tools) == tools
    assert job.forced_tools == forced


@pytest.mark.parametrize(
    ("fields", "one"),
    [({}, False), ({"parallel_tool_calls": True}, False), ({"parallel_tool_calls": False}, True)],
)
def test_parallel_calls_can_be_turned_off(fields: dict[str, Any], one: bool) -> None:
    assert parse_chat(body(messages=HI, tools=[tool("f")], **fields)).one_call is one


def test_tools_are_taken_as_they_came() -> None:
    """A template gets the whole schema."""
    assert chat(tools=[tool("f"), None]).tools == (tool("f"),)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_formats(said: dict[str, Any], expected: Any) -> None:
    assert chat(response_format=said).format == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"top_logprobs": 3}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 3}, 3),
        ({"logprobs": False, "top_logprobs": 3}, None),
    ],
)
def test_logprobs(fields: dict[str, Any], expected: int | None) -> None:
    assert chat(**fields).top_logprobs == expected


def test_parts_are_one_message() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "refusal", "refusal": "b"},
        {"type": "image_url", "image_url": f"data:;base64,{PIXEL}"},
    ]
    [message] = chat(messages=[{"role": "USER", "content": parts}]).messages

    assert message == ChatMessage(role="user", content="a\n\nb", images=(PIXEL, PIXEL))


def test_a_developer_is_the_system() -> None:
    """And stands in for the model's own, as a system message does."""
    able = model("completion", system="model's")

    assert chat(able).messages[0] == ChatMessage(role="system", content="model's")
    told = [{"role": "developer", "content": "client's"}]
    assert chat(able, messages=told).messages == (ChatMessage(role="system", content="client's"),)


def test_a_history_with_tools() -> None:
    """Arguments become objects; a result has the name of its call, the last one of that id."""
    history = [
        {
            "role": "assistant",
            "content": None,
            "reasoning": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {
            "role": "tool",
            "tool_call_id": "2",
            "name": "h",
            "content": [{"type": "text", "text": "two"}],
        },
        {"role": "tool", "tool_call_id": "3", "content": "three"},
    ]
    called, *results = chat(messages=history).messages

    assert called.thinking == "hm"
    assert called.content == ""
    assert [call["function"] for call in called.tool_calls] == [
        {"name": "f", "arguments": {"a": 1}},
        {"name": "g", "arguments": {}},
    ]
    assert [(each.tool_name, each.tool_call_id, each.content) for each in results] == [
        ("f", "1", "one"),
        ("h", "2", "two"),
        ("", "3", "three"),
    ]


def test_what_ollama_ignores_is_ignored() -> None:
    plain = chat()
    assert chat(user="u", logit_bias={}, store=True, keep_alive=0, options={"seed": 1}) == plain


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        ("", 400, "model is required"),
        ("a b", 400, "invalid model name"),
        ("x:cloud", 403, "ollama cloud is disabled: remote model is unavailable"),
    ],
)
def test_names_of_chats(typed: str, status: int, words: str) -> None:
    with pytest.raises(DialectError) as caught:
        target(parse_chat(body(model=typed, messages=HI)))

    assert (caught.value.status, caught.value.message) == (status, words)


def test_other_endpoints_do_not_find_an_empty_name() -> None:
    """Contract 1.5."""
    for asked in (
        parse_completion(body(model="")),
        parse_embedding(body(model="", input="x")),
    ):
        with pytest.raises(DialectError) as caught:
            target(asked)

        assert (caught.value.status, caught.value.message) == (404, "model '' not found")


def test_likely_tokens_are_counted_before_the_name_is_read() -> None:
    with pytest.raises(DialectError) as caught:
        target(parse_chat(body(model="a b", messages=HI, logprobs=True, top_logprobs=21)))

    assert caught.value.message == "top_logprobs must be between 0 and 20"


# ------------------------------------------------------------------------------ completions


def test_a_completion_is_templated() -> None:
    """Contract 3.2."""
    job = completion(model("completion", system="s"), max_tokens=3, logprobs=2, top_p=0)

    assert job.kind == "chat"
    assert [message.role for message in job.messages] == ["system", "user"]
    assert (job.num_predict, job.top_logprobs, job.sampling.top_p) == (3, 2, 1.0)


def test_a_top_p_that_is_given_counts() -> None:
    assert completion(top_p=0.5).sampling.top_p == 0.5


def test_a_suffix_is_a_hole_to_fill() -> None:
    job = completion(suffix="end")

    assert (job.kind, job.prompt, job.suffix, job.messages) == ("completion", "hi", "end", ())


def test_an_empty_prompt_loads() -> None:
    assert completion(prompt="").kind == "load"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"prompt": ["a"]},
            "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
        ),
        ({"stop": ["a", 1]}, "invalid type for 'stop' field: float64"),
        ({"n": 2}, "n must be 1: this server makes one choice for a request"),
    ],
)
def test_what_is_no_completion_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DialectError) as caught:
        completion(**fields)

    assert (caught.value.status, caught.value.message) == (400, words)


def test_a_suffix_takes_a_model_that_can() -> None:
    with pytest.raises(DialectError, match="does not support insert"):
        completion(model("completion"), suffix="x")


def test_a_model_that_only_embeds_completes_nothing() -> None:
    with pytest.raises(DialectError, match='"m" does not support generate'):
        completion(model("embedding"))


# ------------------------------------------------------------------------------ embeddings


@pytest.mark.parametrize(
    ("said", "inputs"), [("x", ("x",)), ("", ("",)), (["a", ""], ("a", "")), ([""], ("",))]
)
def test_texts_to_embed(said: Any, inputs: tuple[str, ...]) -> None:
    asked = parse_embedding(body(input=said, dimensions=3, encoding_format="BASE64"))
    job = embed_job(asked, model("embedding"), job_id="j", now=NOW, seed=9)

    assert (job.kind, job.inputs) == ("embed", inputs)
    assert (asked.dimensions, asked.base64) == (3, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "invalid input"),
        ({"input": None}, "invalid input"),
        ({"input": []}, "invalid input"),
        ({"input": 1}, "invalid input type"),
        ({"input": [1, 2]}, "invalid input type"),
        ({"input": [[1, 2]]}, "invalid input type"),
        (
            {"input": "x", "encoding_format": "int8"},
            "Invalid value for 'encoding_format' = int8. Supported values: ['float', 'base64'].",
        ),
    ],
)
def test_what_cannot_be_embedded_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DialectError) as caught:
        parse_embedding(body(**fields))

    assert (caught.value.status, caught.value.message) == (400, words)


def test_a_model_that_can_neither_talk_nor_embed() -> None:
    with pytest.raises(DialectError, match='"m" does not support embed'):
        embed_job(parse_embedding(body(input="x")), model(), job_id="j", now=NOW, seed=9)
