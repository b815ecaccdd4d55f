"""Programs written against Anthropic's Python client, unmodified, from HTTP to the NPU's library.

The emulated model says what a script makes it say; its marks are special tokens, as some models' are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import ollama
import pytest
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock
from pydantic import BaseModel
from rkllama_service import key_file
from rkllama_service.keys import Scope
from rkllm_bindings.emulator import ModelScript, Reply, read_trace

from tests.emulated import SPECIAL, create, emulated
from tests.integration.test_tools import ADD, FUNCTIONS, MARKS, REPLIES, TEMPLATE, THOUGHT
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.boards

BUSY = "server busy, please try again.  maximum pending requests exceeded"
SCRIPT = ModelScript(
    decode_tokens_per_s=500,
    replies=[
        *REPLIES,
        Reply(text="Hello, world.", when="Say hello"),
        Reply(text="I am told.", when="<|im_start|>system\nBe told."),
        Reply(text=f"<tool_call>\n{ADD}\n</tool_call>", when="call of the tool `add`"),
    ],
)
CALLED = {
    "add": {"a": 3, "b": 5},
    "multiply": {"a": 4, "b": 6},
}


def client_of(stack: Stack, key: str = "unused") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=stack.url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A board with `able`, which knows tools and thinks, `plain`, which does neither, and `endless`."""
    folder = tmp_path_factory.mktemp("npu")
    with (
        emulated(folder, "abi-1.3.0", RKLLAMA_GATEWAY_MAX_WAITING="1") as running,
        ollama.Client(host=running.url, trust_env=False) as client,
    ):
        create(client, "plain", SCRIPT, folder, special=SPECIAL | MARKS)
        client.create("able", from_="plain", template=TEMPLATE)
        endless = ModelScript(
            answer_tokens=100_000, decode_tokens_per_s=50, trace=folder / "endless.jsonl"
        )
        create(client, "endless", endless, folder)
        yield running


@pytest.fixture
def client(npu: Stack) -> Iterator[anthropic.Anthropic]:
    with client_of(npu) as client:
        yield client


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def tools() -> list[Any]:
    numbers = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    schema = {"type": "object", "properties": numbers, "required": ["a", "b"]}
    return [{"name": name, "input_schema": schema} for name in FUNCTIONS]


def results(message: Message) -> list[Any]:
    """The next turn: what the functions that were called give."""
    blocks = []
    for block in message.content:
        if isinstance(block, ToolUseBlock):
            given: dict[str, Any] = block.input
            number = str(FUNCTIONS[block.name](**given))
            content = [{"type": "text", "text": number}]
            blocks.append({"type": "tool_result", "tool_use_id": block.id, "content": content})
    return [{"role": "assistant", "content": message.content}, {"role": "user", "content": blocks}]


def shape(message: Message) -> list[tuple[Any, ...]]:
    """What a message says, without its ids."""
    said: list[tuple[Any, ...]] = []
    for block in message.content:
        match block:
            case TextBlock():
                said.append(("text", block.text))
            case ThinkingBlock():
                said.append(("thinking", block.thinking, block.signature))
            case ToolUseBlock():
                said.append(("tool_use", block.name, block.input))
            case _:
                said.append((block.type,))
    return said


def message(client: anthropic.Anthropic, *, stream: bool, **asking: Any) -> Message:
    """The answer, put together by the client where it comes as a stream."""
    asking = {"max_tokens": 1000} | asking
    if not stream:
        answer: Message = client.messages.create(**asking)
        return answer
    with client.messages.stream(**asking) as events:
        return events.get_final_message()


both = pytest.mark.parametrize("stream", [False, True])
"""Once as one object, once as a stream."""


@both
def test_a_message(client: anthropic.Anthropic, *, stream: bool) -> None:
    answer = message(client, stream=stream, model="plain", messages=asked("Say hello"))

    assert shape(answer) == [("text", "Hello, world.")]
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", "plain", "end_turn")
    assert answer.usage.output_tokens == len("Hello, world.")
    assert answer.usage.input_tokens > len("Say hello")
    assert answer.id.startswith("msg_")


def test_an_answer_knows_its_request(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="plain", max_tokens=9, messages=asked("Say hello"))

    assert (answer._request_id or "").startswith("req_")


def test_the_beta_client_is_answered_as_well(client: anthropic.Anthropic) -> None:
    """It asks for `?beta=true`, as Claude Code does."""
    answer = client.beta.messages.create(
        model="plain",
        max_tokens=100,
        betas=["interleaved-thinking-2025-05-14"],
        messages=[{"role": "user", "content": "Say hello"}],
    )

    assert [block.type for block in answer.content] == ["text"]


def test_text_is_streamed_in_pieces(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="plain", max_tokens=100, messages=asked("Say hello")
    ) as stream:
        pieces = list(stream.text_stream)

    assert len(pieces) > 1
    assert "".join(pieces) == "Hello, world."


@pytest.mark.parametrize(
    "system", ["Be told.", [{"type": "text", "text": "Be "}, {"type": "text", "text": "told."}]]
)
def test_a_system_prompt(client: anthropic.Anthropic, system: Any) -> None:
    answer = client.messages.create(
        model="plain", max_tokens=100, system=system, messages=asked("Hi")
    )

    assert shape(answer) == [("text", "I am told.")]


@both
@pytest.mark.parametrize(
    ("asking", "text", "reason", "sequence"),
    [
        ({"max_tokens": 5}, "Hello", "max_tokens", None),
        ({"stop_sequences": ["x", ", w"]}, "Hello", "stop_sequence", ", w"),
        ({"stop_sequences": ["x"]}, "Hello, world.", "end_turn", None),
    ],
)
def test_why_a_message_ends(
    client: anthropic.Anthropic,
    asking: dict[str, Any],
    text: str,
    reason: str,
    sequence: str | None,
    *,
    stream: bool,
) -> None:
    answer = message(client, stream=stream, model="plain", messages=asked("Say hello"), **asking)

    assert shape(answer) == [("text", text)]
    assert (answer.stop_reason, answer.stop_sequence) == (reason, sequence)


@both
def test_tools_go_round(client: anthropic.Anthropic, *, stream: bool) -> None:
    """Both calls of one answer, and both results in one turn."""
    quiet: dict[str, Any] = {
        "model": "able", "tools": tools(), "thinking": {"type": "disabled"}
    }  # fmt: skip
    messages = asked("Do both.")
    first = message(client, stream=stream, messages=messages, **quiet)
    second = message(client, stream=stream, messages=messages + results(first), **quiet)

    assert shape(first) == [
        ("text", "Both."),
        *(("tool_use", name, given) for name, given in CALLED.items()),
    ]
    assert first.stop_reason == "tool_use"
    assert shape(second) == [("text", "Eight and twenty-four.")]
    assert second.stop_reason == "end_turn"


def test_a_call_is_streamed_as_json(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="able",
        max_tokens=200,
        tools=tools(),
        messages=asked("Do both."),
        thinking={"type": "disabled"},
    ) as stream:
        events = list(stream)
    seen = [event.type for event in events]
    given = [event.snapshot for event in events if event.type == "input_json"]

    assert given == list(CALLED.values())
    assert seen.count("content_block_start") == seen.count("content_block_stop") == 3
    assert (seen[0], seen[-2:]) == ("message_start", ["message_delta", "message_stop"])


def test_parallel_calls_may_be_turned_off(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model="able",
        max_tokens=200,
        tools=tools(),
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        messages=asked("Do both."),
        thinking={"type": "disabled"},
    )

    assert shape(answer) == [("text", "Both."), ("tool_use", "add", CALLED["add"])]


@both
def test_a_call_can_be_forced(client: anthropic.Anthropic, *, stream: bool) -> None:
    """What the NPU's library cannot be held to is asked for in words, and checked."""
    answer = message(
        client,
        stream=stream,
        model="able",
        tools=tools(),
        tool_choice={"type": "tool", "name": "add"},
        messages=asked("Hello there."),
        thinking={"type": "disabled"},
    )

    assert shape(answer) == [("tool_use", "add", CALLED["add"])]
    assert answer.stop_reason == "tool_use"


def test_no_tool_is_called_where_none_may_be(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(
        model="able",
        max_tokens=200,
        tools=tools(),
        tool_choice={"type": "none"},
        messages=asked("Do both."),
        thinking={"type": "disabled"},
    )

    assert {kind for kind, *_ in shape(answer)} == {"text"}


@both
def test_thinking_is_a_block_of_its_own(client: anthropic.Anthropic, *, stream: bool) -> None:
    answer = message(
        client,
        stream=stream,
        model="able",
        messages=asked("Think."),
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )

    assert shape(answer) == [("thinking", THOUGHT, ""), ("text", "Eight.")]


def test_thoughts_and_calls_go_back_as_they_came(client: anthropic.Anthropic) -> None:
    thinking: dict[str, Any] = {
        "model": "able",
        "max_tokens": 2000,
        "tools": tools(),
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    messages = asked("Look it up.")
    first = client.messages.create(messages=messages, **thinking)
    second = client.messages.create(messages=messages + results(first), **thinking)

    assert shape(first) == [("thinking", THOUGHT, ""), ("tool_use", "add", CALLED["add"])]
    assert shape(second) == [("text", "It is eight.")]


def test_thinking_of_a_model_that_cannot_is_left_out(client: anthropic.Anthropic) -> None:
    """Contract 4: relaxed, unlike in the other dialects."""
    answer = client.messages.create(
        model="plain",
        messages=asked("Say hello"),
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )

    assert shape(answer) == [("text", "Hello, world.")]


class Person(BaseModel):
    name: str
    born: int


def test_an_answer_is_parsed_into_a_model(client: anthropic.Anthropic) -> None:
    answer = client.messages.parse(
        model="plain", max_tokens=200, messages=asked("JSON"), output_format=Person
    )

    assert answer.parsed_output == Person(name="Ada", born=1815)


@pytest.mark.parametrize(
    "asking",
    [
        {"model": "plain"},
        {"model": "plain", "system": "Be told."},
        {"model": "able", "tools": tools(), "thinking": {"type": "disabled"}},
    ],
)
def test_a_count_is_what_the_answer_says_it_read(
    client: anthropic.Anthropic, asking: dict[str, Any]
) -> None:
    counted = client.messages.count_tokens(messages=asked("Say hello"), **asking)
    answer = client.messages.create(max_tokens=1, messages=asked("Say hello"), **asking)

    assert counted.input_tokens == answer.usage.input_tokens > 0


def test_more_can_be_counted_than_fits(client: anthropic.Anthropic) -> None:
    """A token a byte: this is longer than any context of the model."""
    counted = client.messages.count_tokens(model="plain", messages=asked("x" * 20_000))
    less = client.messages.count_tokens(model="plain", messages=asked("x"))

    assert counted.input_tokens == less.input_tokens + 19_999


def test_a_client_that_leaves_ends_the_run(npu: Stack, client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="endless", max_tokens=100_000, messages=asked("Hi")
    ) as stream:
        next(iter(stream.text_stream))

    trace = next(npu.folder.rglob("endless.jsonl"))
    wait_until("the run to end", lambda: ended(trace) and ended(trace)[-1]["aborted"])
    wait_until("its request to end", lambda: running(npu) == 0)


def ended(trace: Path) -> list[dict[str, Any]]:
    return [event for event in read_trace(trace) if event["event"] == "run_end"]


def running(stack: Stack) -> float:
    return stack.metric(stack.url, "rkllama_requests_running")


def test_errors_are_the_clients_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found") as missing:
        client.messages.create(model="nope", max_tokens=1, messages=asked("Hi"))
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required") as wrong:
        client.messages.create(model="plain", max_tokens=0, messages=asked("Hi"))
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        client.messages.create(model="plain", max_tokens=1, messages=asked("Hi"), tools=tools())

    assert missing.value.type == "not_found_error"
    assert wrong.value.type == "invalid_request_error"
    assert (missing.value.request_id or "").startswith("req_")


def test_a_full_queue_is_an_error_that_can_be_retried(
    npu: Stack, client: anthropic.Anthropic
) -> None:
    asking: dict[str, Any] = {"model": "endless", "max_tokens": 100_000, "messages": asked("Hi")}

    def wait_in_line() -> None:
        with client_of(npu) as other, other.messages.stream(**asking) as stream:
            next(iter(stream))

    with client.messages.stream(**asking) as stream:
        next(iter(stream))
        waiting = threading.Thread(target=wait_in_line)
        waiting.start()
        wait_until("one to wait", lambda: npu.queued() == 1)
        with pytest.raises(anthropic.APIStatusError) as busy:
            client.messages.create(**asking, stream=True)
    waiting.join()

    assert (busy.value.status_code, busy.value.type) == (503, "overloaded_error")
    assert isinstance(busy.value, anthropic.InternalServerError)
    assert BUSY in busy.value.message
    assert busy.value.response.headers["retry-after"] == "1"


def test_a_key_is_asked_for_and_taken(tmp_path: Path) -> None:
    key = key_file.create(
        tmp_path / "keys.json", "bob", Scope.INFER, now=datetime(2026, 1, 2, tzinfo=UTC)
    )
    with emulated(tmp_path, "abi-1.3.0", RKLLAMA_AUTH="all") as stack:
        with (
            client_of(stack, "wrong") as client,
            pytest.raises(anthropic.AuthenticationError) as no,
        ):
            client.messages.create(model="plain", max_tokens=1, messages=asked("Hi"))
        with client_of(stack, key) as client, pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(model="plain", messages=asked("Hi"))

    assert no.value.type == "authentication_error"
