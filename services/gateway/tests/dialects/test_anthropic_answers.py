"""Messages and events byte for byte (contract 1.3, 1.5, 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from rkllama_gateway.dialects.anthropic.answers import (
    PING,
    PING_NS,
    CountAnswer,
    MessageAnswer,
)
from rkllama_gateway.dialects.anthropic.failures import Failures, failure
from rkllama_gateway.dialects.errors import DialectError
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import BY_CODE, OverloadedError, from_wire

GOLDEN = Path(__file__).parent / "golden"
ADD = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": "<", "é": [1]}}}
NOW = {"id": "call_2", "function": {"index": 1, "name": "now", "arguments": {}}}

TALK = (
    Chunk(seq=0, ids=(1,), prompt_tokens=12),
    Chunk(seq=1, ids=(2,), thinking="h"),
    Chunk(seq=2, ids=(3,), thinking="m\n"),
    Chunk(seq=3, ids=(4, 5), content="a <b> & é\u2028"),
    Chunk(seq=4, ids=(6,)),
    Chunk(seq=5, ids=(7,), content='"\\\n', finish="length"),
)
CALLS = (
    Chunk(seq=0, ids=(1,), prompt_tokens=12, content="Both."),
    Chunk(seq=1, ids=(2,), tool_calls=(ADD,)),
    Chunk(seq=2, ids=(3,), tool_calls=(NOW,)),
    Chunk(seq=3, content="Done.", finish="stop"),
)
STOPPED = (
    Chunk(seq=0, ids=(1,), prompt_tokens=3, content="one "),
    Chunk(seq=1, ids=(2,), finish="stop", stopped_by="END"),
)
NOTHING = (Chunk(seq=0, prompt_tokens=2, finish="stop"),)
CASES = {"talk": TALK, "calls": CALLS, "stopped": STOPPED, "nothing": NOTHING}


def answer(stops: Sequence[str] = ("END",), **how: Any) -> MessageAnswer:
    return MessageAnswer("M:x", message_id=f"msg_{'0' * 24}", stops=stops, **how)


def streamed(chunks: tuple[Chunk, ...], message: MessageAnswer | None = None) -> bytes:
    message = message or answer()
    events = [message.record(chunk, now_ns=0, elapsed_ns=at) for at, chunk in enumerate(chunks)]
    return b"".join(event for event in events if event)


def whole(chunks: tuple[Chunk, ...], message: MessageAnswer | None = None) -> bytes:
    message = message or answer()
    for chunk in chunks:
        message.add(chunk, elapsed_ns=0)
    return message.whole(now_ns=0, elapsed_ns=0)


def events(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Each with its name, as the SDKs read them."""
    found = []
    for event in stream.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def put_together(stream: bytes) -> dict[str, Any]:
    """The message that a stream tells, by the rules of the SDKs' accumulators."""
    message: dict[str, Any] = {}
    for name, data in events(stream):
        match name:
            case "message_start":
                message = data["message"]
            case "content_block_start":
                assert data["index"] == len(message["content"])
                message["content"].append(data["content_block"])
            case "content_block_delta":
                block, delta = message["content"][data["index"]], data["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "input_json_delta":
                        block["input"] = json.loads(delta["partial_json"])
            case "message_delta":
                message |= data["delta"]
                message["usage"] |= data["usage"]
    return message


@pytest.mark.parametrize("case", CASES)
def test_streams_are_the_golden_ones(case: str) -> None:
    assert streamed(CASES[case]) == (GOLDEN / f"anthropic_{case}.sse").read_bytes()


def test_a_stream_that_fails_is_the_golden_one() -> None:
    failed = Failures(f"req_{'0' * 24}").error_line(DialectError(500, "the board is gone"))

    assert streamed(TALK[:-1]) + failed == (GOLDEN / "anthropic_failed.sse").read_bytes()


def test_every_event_is_in_a_golden_stream() -> None:
    """Those of Anthropic's description of streams, and the deltas that can be made here."""
    told = [event for path in GOLDEN.glob("anthropic_*.sse") for event in events(path.read_bytes())]

    assert {name for name, _ in told} == {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    }
    assert {data["delta"]["type"] for name, data in told if name == "content_block_delta"} == {
        "text_delta",
        "thinking_delta",
        "input_json_delta",
    }
    starts = (data["content_block"] for name, data in told if name == "content_block_start")
    assert {block["type"] for block in starts} == {"text", "thinking", "tool_use"}


@pytest.mark.parametrize("case", CASES)
def test_messages_are_the_golden_ones(case: str) -> None:
    assert whole(CASES[case]) == (GOLDEN / f"anthropic_{case}.json").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_a_stream_tells_the_same_as_a_message(case: str) -> None:
    stream = streamed(CASES[case])

    assert put_together(stream) == json.loads(whole(CASES[case]))
    assert all(name == data["type"] for name, data in events(stream))


@pytest.mark.parametrize("case", CASES)
def test_the_clients_reader_gets_the_same_a_byte_at_a_time(case: str) -> None:
    golden = (GOLDEN / f"anthropic_{case}.sse").read_bytes()
    told = json.loads((GOLDEN / f"anthropic_{case}.json").read_bytes())

    def dribble(_: httpx2.Request) -> httpx2.Response:
        pieces = (golden[at : at + 1] for at in range(len(golden)))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=pieces)

    with (
        anthropic.Anthropic(
            api_key="unused", http_client=httpx2.Client(transport=httpx2.MockTransport(dribble))
        ) as client,
        client.messages.stream(model="m", max_tokens=1, messages=[]) as stream,
    ):
        message = stream.get_final_message()

    shown = message.to_dict(exclude_unset=False, exclude_none=True)
    assert shown == {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    ("stops", "last", "reason", "sequence"),
    [
        ((), Chunk(seq=1, finish="stop"), "end_turn", None),
        (("END",), Chunk(seq=1, finish="stop"), "end_turn", None),
        (("END",), Chunk(seq=1, finish="stop", stopped_by="END"), "stop_sequence", "END"),
        # A stop string of the model's own.
        ((), Chunk(seq=1, finish="stop", stopped_by="<end>"), "end_turn", None),
        ((), Chunk(seq=1, finish="length"), "max_tokens", None),
        ((), Chunk(seq=1, finish="stop", tool_calls=(NOW,)), "tool_use", None),
        (("E",), Chunk(seq=1, finish="stop", stopped_by="E", tool_calls=(NOW,)), "tool_use", None),
    ],
)
def test_why_it_ended(
    stops: tuple[str, ...], last: Chunk, reason: str, sequence: str | None
) -> None:
    chunks = (Chunk(seq=0, ids=(1,), content="a"), last)
    message = json.loads(whole(chunks, answer(stops)))
    delta = dict(events(streamed(chunks, answer(stops))))["message_delta"]["delta"]

    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert delta == {"stop_reason": reason, "stop_sequence": sequence}


def test_only_the_first_call_counts_where_one_is_asked_for() -> None:
    one = answer(one_call=True)
    blocks = json.loads(whole(CALLS, one))["content"]

    assert [block["type"] for block in blocks] == ["text", "tool_use", "text"]
    assert put_together(streamed(CALLS, answer(one_call=True)))["content"] == blocks


def test_a_long_silence_has_pings() -> None:
    """An answer that is held back to be checked has chunks that show nothing."""
    message, hidden = answer(), Chunk(seq=1, ids=(1,))
    message.record(Chunk(seq=0, ids=(1,)), now_ns=0, elapsed_ns=5)
    said = [
        message.record(hidden, now_ns=0, elapsed_ns=elapsed)
        for elapsed in (6, PING_NS + 4, PING_NS + 5, PING_NS + 6, 2 * PING_NS + 5)
    ]

    assert said == [None, None, PING, None, PING]


def test_a_count_is_one_number() -> None:
    counted = CountAnswer("m")
    counted.add(Chunk(seq=0, rendered="x", prompt_tokens=31, finish="stop"), elapsed_ns=0)

    assert counted.whole(now_ns=0, elapsed_ns=0) == b'{"input_tokens":31}\n'


@pytest.mark.parametrize(
    "take",
    [
        lambda chunk: answer().record(chunk, now_ns=0, elapsed_ns=0),
        lambda chunk: answer().add(chunk, elapsed_ns=0),
        lambda chunk: CountAnswer("M:x").add(chunk, elapsed_ns=0),
    ],
)
def test_a_chunk_that_failed_is_a_refusal(take: Callable[[Chunk], object]) -> None:
    chunk = Chunk(seq=0, error_code="prompt_too_long", error_message="too long")
    with pytest.raises(DialectError) as refused:
        take(chunk)

    assert (refused.value.status, refused.value.message) == (400, "too long")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (507, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_a_type_for_each_status(status: int, kind: str) -> None:
    """Contract 1.5."""
    told, error = Failures("req_1"), DialectError(status, "why <")
    body = (
        b'{"type":"error","error":{"type":"%s","message":"why \\u003c"},"request_id":"req_1"}'
        % kind.encode()
    )

    assert told.error_body(error) == body
    assert told.error_line(error) == b"event: error\ndata: " + body + b"\n\n"


def test_a_model_that_is_not_there_is_named_as_typed() -> None:
    refused = failure(from_wire("model_not_found", ""), typed="Nope")

    assert (refused.status, refused.message) == (404, "model 'Nope' not found")


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_has_a_status(code: str) -> None:
    assert 400 <= failure(from_wire(code, "x"), typed="m").status < 600


def test_a_full_queue_says_when_to_come_again() -> None:
    refused = failure(OverloadedError("x", retry_after_s=3), typed="m")

    assert (refused.status, refused.retry_after_s) == (503, 3)
