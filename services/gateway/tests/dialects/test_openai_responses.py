"""`/v1/responses`: items in, items and events out (contract 3.5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openai.inputs import LOGPROBS, ResponseRequest, parse_response
from rkllama_gateway.dialects.openai.packed import MOST_BYTES, unpacked
from rkllama_gateway.dialects.openai.responses import ResponseAnswer
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import ChatMessage

GOLDEN = Path(__file__).parent / "golden"
CREATED = 1_700_000_000
TIMES = {"now_ns": (CREATED + 2) * 1_000_000_000, "elapsed_ns": 1}
PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object"}
CALL = {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": "<"}}}
SPACED = {"id": "call_2", "function": {"index": 1, "name": "crm__find", "arguments": {}}}
SURE = {"token": "a", "logprob": -0.25, "bytes": [97]}

TALK = (
    Chunk(seq=0, ids=(1,), prompt_tokens=12, thinking="h", logprobs=(SURE,)),
    Chunk(seq=1, ids=(2,), thinking="m"),
    Chunk(seq=2, ids=(3,), content="a <b>", logprobs=(SURE,)),
    Chunk(seq=3, ids=(4,), content="!"),
    Chunk(seq=4, ids=(5,), tool_calls=(CALL, SPACED)),
    Chunk(seq=5, ids=(6,), finish="stop"),
)
EMPTY = (Chunk(seq=0, ids=(1,), prompt_tokens=2, finish="stop"),)
CUT = (Chunk(seq=0, ids=(1,), prompt_tokens=2, content="a"), Chunk(seq=1, finish="length"))
CALLED = (Chunk(seq=0, ids=(1,), tool_calls=(CALL,), finish="stop"),)
FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA}
NAMESPACE = {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "find"}]}


def asked(given: Any = "hi", **fields: Any) -> ResponseRequest:
    return parse_response(json.dumps({"model": "M", "input": given, **fields}).encode())


def messages(*items: Any) -> tuple[ChatMessage, ...]:
    return asked(list(items)).run.messages


def answer(**fields: Any) -> ResponseAnswer:
    return ResponseAnswer(asked(tools=[FUNCTION, NAMESPACE], **fields), job_id="j", created=CREATED)


def streamed(chunks: tuple[Chunk, ...]) -> bytes:
    one = answer()
    return b"".join(one.record(chunk, **TIMES) or b"" for chunk in chunks)


def broken(chunks: tuple[Chunk, ...]) -> bytes:
    """A stream that ends with a failure."""
    one = answer()
    begun = b"".join(one.record(chunk, **TIMES) or b"" for chunk in chunks)
    return begun + one.error_line(DialectError(500, "the board is gone"))


def whole(chunks: tuple[Chunk, ...], **fields: Any) -> bytes:
    one = answer(**fields)
    for chunk in chunks:
        one.add(chunk, elapsed_ns=1)
    return one.whole(**TIMES)


def events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n")
        fields = json.loads(body.removeprefix("data: "))
        assert name == f"event: {fields['type']}"
        found.append(fields)
    return found


# ------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("response_stream", streamed(TALK)),
        ("response_stream_empty", streamed(EMPTY)),
        ("response_stream_cut", streamed(CUT)),
        ("response_stream_failed", broken(CUT[:1])),
        ("response_whole", whole(TALK)),
        ("response_whole_cut", whole(CUT, max_output_tokens=1, instructions="i", top_p=0.5)),
    ],
)
def test_responses_byte_for_byte(name: str, written: bytes) -> None:
    assert written == (GOLDEN / f"openai_{name}.txt").read_bytes()


@pytest.mark.parametrize("chunks", [TALK, EMPTY, CUT, CALLED])
def test_events_are_numbered_and_end_with_the_whole(chunks: tuple[Chunk, ...]) -> None:
    told = events(streamed(chunks))
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]

    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["response"] == json.loads(whole(chunks))
    assert told[-1]["response"]["output"] == done


def test_a_response_that_only_calls_has_no_message() -> None:
    assert [item["type"] for item in json.loads(whole(CALLED))["output"]] == ["function_call"]


def test_nothing_to_be_seen_is_no_event() -> None:
    """The status is held until there is something."""
    assert answer().record(Chunk(seq=0, ids=(1,)), **TIMES) is None


def test_a_failure_after_the_first_event_is_told_with_what_there_is() -> None:
    one = answer()
    begun = one.record(CUT[0], **TIMES) or b""
    *_, failed = events(begun + one.error_line(DialectError(500, "gone")))

    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "gone"}
    assert failed["response"]["output"][0]["content"][0]["text"] == "a"
    assert failed["sequence_number"] == len(events(begun))


def test_a_failure_before_the_first_event_is_an_answer_of_its_own() -> None:
    with pytest.raises(DialectError) as caught:
        answer().record(Chunk(seq=0, error_code="engine_died", error_message="x"), **TIMES)

    assert json.loads(answer().error_body(caught.value))["error"]["message"] == "x"


def test_of_parallel_calls_that_are_turned_off_the_first_is_told() -> None:
    one, begun = answer(parallel_tool_calls=False), answer(parallel_tool_calls=False)
    chunks = (TALK[4], Chunk(seq=1, tool_calls=(CALL,)), Chunk(seq=2, finish="stop"))
    for chunk in chunks:
        one.add(chunk, elapsed_ns=1)
    told = json.loads(one.whole(**TIMES))
    streamed_events = events(b"".join(begun.record(chunk, **TIMES) or b"" for chunk in chunks))

    assert told["parallel_tool_calls"] is False
    assert [item["call_id"] for item in told["output"]] == ["call_1"]
    assert streamed_events[-1]["response"] == told


def test_thinking_between_texts() -> None:
    """Each begins an item of its own, with an id of its own."""
    chunks = (
        Chunk(seq=0, content="a"),
        Chunk(seq=1, thinking="b"),
        Chunk(seq=2, content="c"),
        Chunk(seq=3, finish="stop"),
    )
    output = json.loads(whole(chunks))["output"]

    assert [item["id"] for item in output] == ["msg_j", "rs_j", "msg_j_1"]


# ------------------------------------------------------------------------------ packed bodies


def test_a_packed_body_is_unpacked() -> None:
    assert unpacked(zstandard.compress(b"{}"), " ZSTD ") == b"{}"
    assert unpacked(b"{}", "") == b"{}"


@pytest.mark.parametrize(
    ("packed", "encoding", "status", "words"),
    [
        (b"{}", "zstd", 400, "invalid zstd body"),
        (zstandard.compress(b" " * (MOST_BYTES + 1)), "zstd", 413, "request body too large"),
        (b"{}", "gzip", 415, "unsupported Content-Encoding: gzip"),
    ],
    ids=["damaged", "too large", "other"],
)
def test_what_cannot_be_unpacked(packed: bytes, encoding: str, status: int, words: str) -> None:
    with pytest.raises(DialectError) as caught:
        unpacked(packed, encoding)

    assert (caught.value.status, caught.value.message) == (status, words)


# ------------------------------------------------------------------------------ requests


def test_a_text_is_a_user_message_behind_the_instructions() -> None:
    run = asked("hi", instructions="be nice").run

    assert run.messages == (
        ChatMessage(role="system", content="be nice"),
        ChatMessage(role="user", content="hi"),
    )
    assert (run.doing, run.stream, run.think, run.format, run.top_logprobs) == (
        "chat",
        False,
        None,
        None,
        None,
    )


def test_options() -> None:
    """Contract 3.5: only temperature has a default of OpenAI's."""
    assert asked().run.options == {}
    assert asked().run.defaults == {"temperature": 1.0}
    run = asked(max_output_tokens=3, temperature=0, top_p=0.5, reasoning={"effort": "high"}).run
    assert run.options == {"num_predict": 3, "temperature": 0, "top_p": 0.5}
    assert run.think == "high"


def test_items_are_messages() -> None:
    found = messages(
        {"role": "developer", "content": "d"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
            ],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a":1}'},
        {
            "type": "function_call",
            "call_id": "2",
            "name": "find",
            "namespace": "crm",
            "arguments": "",
        },
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "function_call_output", "call_id": "2", "output": "two"},
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [{"type": "input_text", "text": "one"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b"}, {"type": "refusal", "refusal": "c"}],
        },
    )

    assert [message.role for message in found] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert (found[1].content, found[1].images) == ("a", (PIXEL,))
    assert found[2].thinking == "hm"
    assert [call["function"]["name"] for call in found[2].tool_calls] == ["f", "crm__find"]
    assert found[2].tool_calls[0]["function"]["arguments"] == {"a": 1}
    assert [(each.tool_name, each.content) for each in found[3:5]] == [
        ("crm__find", "two"),
        ("f", "one"),
    ]
    assert (found[5].content, found[5].thinking) == ("b\n\nc", "")


def test_a_call_belongs_to_the_text_before_it() -> None:
    [message] = messages(
        {"role": "assistant", "content": "Both."},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    )

    assert (message.content, len(message.tool_calls)) == ("Both.", 1)


def test_a_text_behind_a_call_does_not_part_it_from_its_output() -> None:
    """As Ollama has it: templates want the output directly behind the call."""
    called, output = messages(
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"role": "assistant", "content": "I call f."},
        {"type": "function_call_output", "call_id": "1", "output": "one"},
    )

    assert (called.content, called.thinking, len(called.tool_calls)) == ("I call f.", "hm", 1)
    assert (output.role, output.tool_name) == ("tool", "f")


def test_an_items_type_says_what_it_is_whatever_role_it_has() -> None:
    [message] = messages(
        {"type": "function_call", "role": "user", "call_id": "1", "name": "f", "arguments": "{}"}
    )

    assert (message.role, message.tool_calls[0]["function"]["name"]) == ("assistant", "f")


def test_what_has_no_content_is_empty() -> None:
    """Some clients leave out what a call did not give."""
    [message] = messages({"type": "function_call_output", "call_id": "1"})

    assert (message.role, message.content) == ("tool", "")


def test_tools_are_told_in_the_shape_of_templates() -> None:
    request = asked(tools=[FUNCTION, {"type": "web_search_preview"}, NAMESPACE])

    assert request.run.tools == (
        {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "description": "d"}},
        {
            "type": "function",
            "function": {
                "name": "crm__find",
                "parameters": {"type": "object", "properties": {}},
            },
        },
    )
    assert request.namespaces == {"crm__find": ("crm", "find")}
    assert len(request.echo["tools"]) == 3


@pytest.mark.parametrize(
    ("choice", "tools", "forced"),
    [
        ("none", 0, ()),
        ("required", 1, ("f",)),
        ({"type": "function", "name": "f"}, 1, ("f",)),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}],
            },
            1,
            ("f",),
        ),
    ],
)
def test_a_choice_of_tools_is_honoured(choice: Any, tools: int, forced: tuple[str, ...]) -> None:
    run = asked(tools=[FUNCTION], tool_choice=choice).run

    assert (len(run.tools), run.forced_tools) == (tools, forced)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}, SCHEMA),
    ],
)
def test_formats(said: dict[str, Any], expected: Any) -> None:
    request = asked(text={"format": said})

    assert request.run.format == expected
    assert request.echo["text"] == {"format": said}


def test_logprobs_are_asked_for_by_include() -> None:
    assert asked(top_logprobs=3).run.top_logprobs is None
    assert asked(top_logprobs=3, include=[LOGPROBS]).run.top_logprobs == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": None}, "input must be a string or array: it is <nil>"),
        ({"input": 3}, "input must be a string or array: it is float64"),
        ({"input": []}, "[] is too short - 'input'"),
        ({"input": [{"type": "zzz"}]}, 'input[0]: unknown input item type: "zzz"'),
        ({"input": ["x"]}, 'input[0]: unknown input item type: ""'),
        (
            {"input": [{"role": "user", "content": 1}]},
            "input[0].content: must be a string or array",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "zzz"}]}]},
            'input[0].content[0]: unknown content type: "zzz"',
        ),
        (
            {"input": [{"role": "user", "content": [1]}]},
            "input[0].content[0]: invalid content",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0]: input_file is only supported as an image in a data URI",
        ),
        (
            {"tools": [FUNCTION], "input": [{"type": "function_call_output", "output": 1}]},
            "input[0].output: must be a string or array",
        ),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": "{"}]},
            "invalid tool call arguments",
        ),
        (
            {"input": [{"type": "function_call", "role": "assistant", "arguments": "{}"}]},
            "input[0]: a call has no name",
        ),
        ({"input": [{"type": "function_call", "name": None}]}, "input[0]: a call has no name"),
        ({"tools": [{"type": "function"}]}, "tools[0]: a tool has no name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0]: a tool has no name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]},
            "tools[0]: a tool has no name",
        ),
        ({"tools": [{"type": "mcp"}]}, 'tools[0]: unsupported tool type: "mcp"'),
        ({"tools": [3]}, "tools[0]: invalid tool"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]},
            "tools[0]: a namespace holds functions",
        ),
        (
            {"text": {"format": {"type": "xml"}}},
            'invalid text.format type: "xml" (must be "text", "json_object", or "json_schema")',
        ),
        (
            {"text": {"format": {"type": "json_schema"}}},
            "text.format.schema must be a JSON schema object",
        ),
        ({"tool_choice": "required"}, "tool_choice asks for a call, but there are no tools"),
    ],
)
def test_what_is_no_request_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DialectError) as caught:
        asked(**{"given": fields.pop("input", "hi"), **fields})

    assert (caught.value.status, caught.value.message) == (400, words)


def test_a_whole_request_of_codex() -> None:
    """In the shape that it sends in the second turn of a session."""
    run = asked(
        [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "<permissions>"}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "List the files."}],
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "content": None,
                "encrypted_content": None,
            },
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "phase": "commentary",
                "content": [{"type": "output_text", "text": "I look."}],
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "name": "exec_command",
                "arguments": '{"cmd":"ls"}',
                "call_id": "c",
            },
            {"type": "function_call_output", "call_id": "c", "output": "a.txt"},
        ],
        instructions="You are a coding agent.",
        tools=[
            {"type": "function", "name": "exec_command", "strict": False, "parameters": SCHEMA},
            {"type": "web_search", "external_web_access": False},
        ],
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning={"effort": "medium", "summary": "auto"},
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="k",
        service_tier=None,
        text={"verbosity": "low"},
        client_metadata={"x": "y"},
    ).run

    assert [message.role for message in run.messages] == [
        "system",
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert (run.messages[3].thinking, run.messages[3].content) == ("hm", "I look.")
    assert len(run.messages[3].tool_calls) == 1
    assert run.messages[4].tool_name == "exec_command"
    assert [tool["function"]["name"] for tool in run.tools] == ["exec_command"]
    assert (run.think, run.stream, run.one_call, run.format) == ("medium", True, False, None)
