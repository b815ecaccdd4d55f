"""Programs written against OpenAI's Python client, unmodified, from HTTP to the NPU's library.

The emulated model says what a script makes it say; its marks are special tokens, as some models' are.
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from pydantic import BaseModel
from rkllama_service.keys import Keys, Scope, new_key
from rkllm_bindings.emulator import ModelScript, Reply

from tests.emulated import SPECIAL, create, emulated
from tests.integration.test_tools import MARKS, REPLIES, TEMPLATE, THOUGHT
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.boards

BUSY = "server busy, please try again.  maximum pending requests exceeded"
SCRIPT = ModelScript(
    decode_tokens_per_s=500,
    replies=[
        *REPLIES,
        Reply(text="Hello, world.", when="Say hello"),
        Reply(text="I am told.", when="<|im_start|>system\nBe told."),
    ],
)
FUNCTIONS = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b}


def client_of(stack: Stack, key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)


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
        endless = ModelScript(answer_tokens=100_000, decode_tokens_per_s=50)
        create(client, "endless", endless, folder)
        yield running


@pytest.fixture
def client(npu: Stack) -> Iterator[openai.OpenAI]:
    with client_of(npu) as client:
        yield client


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def tools(*, flat: bool = False) -> list[Any]:
    """The functions as chats have them, or `flat`, as responses do."""
    whole = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    functions = [{"name": name, "parameters": whole} for name in FUNCTIONS]
    return [
        {"type": "function", **function} if flat else {"type": "function", "function": function}
        for function in functions
    ]


def result(name: str, arguments: str) -> str:
    return str(FUNCTIONS[name](**json.loads(arguments)))


# ------------------------------------------------------------------------------ chat


def test_a_chat(client: openai.OpenAI) -> None:
    before = int(datetime.now(UTC).timestamp())
    answer = client.chat.completions.create(model="plain", messages=asked("Say hello."))

    assert answer.choices[0].message.content == "Hello, world."
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == (
        "assistant",
        "stop",
    )
    assert answer.object == "chat.completion"
    assert answer.created >= before
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_with_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="plain",
            messages=asked("Say hello."),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *said, finish, usage = chunks

    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == "Hello, world."
    assert [chunk.choices[0].delta.role for chunk in said] == ["assistant"] + [None] * (
        len(said) - 1
    )
    assert {chunk.choices[0].finish_reason for chunk in said} == {None}
    assert finish.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens > 10
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_developer_is_heard(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="plain",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be told."}]},
            {"role": "user", "content": [{"type": "text", "text": "So?"}]},
        ],
    )

    assert answer.choices[0].message.content == "I am told."


@pytest.mark.parametrize("most", ["max_tokens", "max_completion_tokens"])
def test_an_answer_may_be_cut(client: openai.OpenAI, most: str) -> None:
    limit: dict[str, Any] = {most: 5}
    answer = client.chat.completions.create(model="plain", messages=asked("Say hello."), **limit)

    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stop", [",", ["!", ","]])
def test_an_answer_stops_before_a_text(client: openai.OpenAI, stop: Any) -> None:
    answer = client.chat.completions.create(model="plain", messages=asked("Say hello."), stop=stop)

    assert answer.choices[0].message.content == "Hello"


def test_a_tool_goes_round(client: openai.OpenAI) -> None:
    messages = asked("What is three and five?")
    ask = partial(
        client.chat.completions.create, model="able", tools=tools(), reasoning_effort="none"
    )
    first = ask(messages=messages).choices[0]
    messages.append(first.message)
    for call in first.message.tool_calls:
        content = result(call.function.name, call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    second = ask(messages=messages).choices[0]

    [call] = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert first.message.content == ""
    assert call.type == "function"
    assert call.function.name == "add"
    assert json.loads(call.function.arguments) == {"a": 3, "b": 5}
    assert (second.message.content, second.finish_reason) == ("It is eight.", "stop")


def test_parallel_calls_are_streamed_whole(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="able", messages=asked("Do both."), tools=tools(), reasoning_effort="none"
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        message = stream.get_final_completion().choices[0].message

    assert message.content == "Both."
    assert message.tool_calls is not None
    assert [
        (call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls
    ] == [
        ("add", {"a": 3, "b": 5}),
        ("multiply", {"a": 4, "b": 6}),
    ]
    assert len({call.id for call in message.tool_calls}) == 2
    assert [event.name for event in done] == ["add", "multiply"]


def test_parallel_calls_can_be_turned_off(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="able",
        messages=asked("Do both."),
        tools=tools(),
        parallel_tool_calls=False,
        reasoning_effort="none",
    )
    response = client.responses.create(
        model="able",
        input="Do both.",
        tools=tools(flat=True),
        parallel_tool_calls=False,
        reasoning={"effort": "none"},
    )

    calls = chat.choices[0].message.tool_calls or []
    assert [call.to_dict()["function"]["name"] for call in calls] == ["add"]
    assert [item.name for item in response.output if item.type == "function_call"] == ["add"]


def test_a_choice_of_no_tools_is_heard(client: openai.OpenAI) -> None:
    """The template lists the tools; without any, this model thinks of none."""
    answer = client.chat.completions.create(
        model="able",
        messages=asked("<tools>"),
        tools=tools(),
        tool_choice="none",
        reasoning_effort="none",
    )

    assert answer.choices[0].message.tool_calls is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_call_can_be_asked_for(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="able",
        messages=asked("What is three and five?"),
        tools=tools(),
        tool_choice=choice,
        reasoning_effort="none",
    )

    assert answer.choices[0].message.tool_calls is not None
    assert answer.choices[0].message.tool_calls[0].to_dict()["function"]["name"] == "add"
    assert answer.choices[0].finish_reason == "tool_calls"


class Person(BaseModel):
    name: str
    born: int


def test_an_answer_is_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="plain", messages=asked("JSON, please."), response_format=Person
    )

    assert answer.choices[0].message.parsed == Person(name="Ada", born=1815)


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_is_told_apart(client: openai.OpenAI, stream: bool) -> None:
    answers: Any = client.chat.completions.create(
        model="able", messages=asked("Think."), reasoning_effort="low", stream=stream
    )
    if stream:
        deltas = [chunk.choices[0].delta for chunk in answers]
    else:
        deltas = [answers.choices[0].message]

    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == THOUGHT
    assert "".join(delta.content or "" for delta in deltas) == "Eight."


# ------------------------------------------------------------------------------ completions


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="plain", prompt="Say hello.")
    chunks = list(client.completions.create(model="plain", prompt="Say hello.", stream=True))

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello, world.", "stop")
    assert answer.object == "text_completion"
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello, world."
    assert chunks[-1].choices[0].finish_reason == "stop"


# ------------------------------------------------------------------------------ embeddings


def test_embeddings_as_numbers_and_packed(client: openai.OpenAI) -> None:
    numbers = client.embeddings.create(model="plain", input=["a", "b"], encoding_format="float")
    packed: Any = client.embeddings.create(
        model="plain", input=["a", "b"], encoding_format="base64"
    )
    unsaid = client.embeddings.create(model="plain", input="a")
    cut = client.embeddings.create(model="plain", input="a", dimensions=16)

    assert [row.index for row in numbers.data] == [0, 1]
    assert math.isclose(sum(value * value for value in numbers.data[0].embedding), 1, rel_tol=1e-5)
    assert len(base64.b64decode(packed.data[0].embedding)) == 4 * len(numbers.data[0].embedding)
    assert unsaid.data[0].embedding == pytest.approx(numbers.data[0].embedding)
    assert len(cut.data[0].embedding) == 16
    assert numbers.usage.prompt_tokens == numbers.usage.total_tokens > 0


# ------------------------------------------------------------------------------ responses


def test_a_response(client: openai.OpenAI) -> None:
    response = client.responses.create(model="plain", input="Say hello.", instructions="Be nice.")

    assert response.output_text == "Hello, world."
    assert (response.status, response.instructions) == ("completed", "Be nice.")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_response_is_a_pydantic_model(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="plain", input="JSON, please.", text_format=Person)

    assert response.output_parsed == Person(name="Ada", born=1815)


def test_a_streamed_response_with_tools_goes_round(client: openai.OpenAI) -> None:
    asking: dict[str, Any] = {
        "model": "able",
        "tools": tools(flat=True),
        "reasoning": {"effort": "none"},
    }
    history: list[Any] = [{"role": "user", "content": "Do both."}]
    with client.responses.stream(input=history, **asking) as stream:
        events = list(stream)
        first = stream.get_final_response()
    history += [item.to_dict() for item in first.output]
    calls = [item for item in first.output if item.type == "function_call"]
    for call in calls:
        output = result(call.name, call.arguments)
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    second = client.responses.create(input=history, **asking)

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    assert first.output_text == "Both."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("add", {"a": 3, "b": 5}),
        ("multiply", {"a": 4, "b": 6}),
    ]
    assert second.output_text == "Eight and twenty-four."


def test_a_streamed_response_that_thinks(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="able", input="Think.", reasoning={"effort": "low"}
    ) as stream:
        deltas = [
            event.delta for event in stream if event.type == "response.reasoning_summary_text.delta"
        ]
        response = stream.get_final_response()
    reasoning, message = response.output

    assert "".join(deltas) == THOUGHT
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == THOUGHT
    assert message.type == "message"
    assert response.output_text == "Eight."
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens > 0


def test_a_response_that_is_cut_says_so(client: openai.OpenAI) -> None:
    events = list(
        client.responses.create(model="plain", input="Say hello.", max_output_tokens=5, stream=True)
    )

    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "Hello"


# ------------------------------------------------------------------------------ models


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    one = client.models.retrieve("Plain")

    assert set(listed) == {"plain:latest", "able:latest", "endless:latest"}
    assert listed["plain:latest"].owned_by == "library"
    assert (one.id, one.created) == ("Plain", listed["plain:latest"].created)


# ------------------------------------------------------------------------------ what goes wrong


def leave_a_chat(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="endless", messages=asked("Go."), stream=True)
    next(stream)
    stream.close()


def leave_a_completion(client: openai.OpenAI) -> None:
    stream = client.completions.create(model="endless", prompt="Go.", stream=True)
    next(stream)
    stream.close()


def leave_a_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="endless", input="Go.") as stream:
        next(event for event in stream if event.type == "response.output_text.delta")


def wait_no_longer(client: openai.OpenAI) -> None:
    """Not a stream: nothing has been sent when the client gives up."""
    patient = client.with_options(timeout=2)
    with pytest.raises(openai.APITimeoutError):
        patient.chat.completions.create(model="endless", messages=asked("Go."))


@pytest.mark.parametrize(
    "leave", [leave_a_chat, leave_a_completion, leave_a_response, wait_no_longer]
)
def test_a_client_that_leaves_frees_the_board(
    npu: Stack, client: openai.OpenAI, leave: Callable[[openai.OpenAI], None]
) -> None:
    before = npu.runs(outcome="aborted")
    leave(client)

    wait_until("the engine to report it", lambda: npu.runs(outcome="aborted") > before)
    answer = client.chat.completions.create(model="plain", messages=asked("Say hello."))
    assert answer.choices[0].message.content == "Hello, world."


@pytest.mark.parametrize(
    ("kind", "asking", "words"),
    [
        (openai.NotFoundError, {"model": "nope"}, "model 'nope' not found"),
        (openai.BadRequestError, {"messages": []}, "[] is too short - 'messages'"),
        (openai.BadRequestError, {"n": 2}, "n must be 1"),
        (openai.BadRequestError, {"reasoning_effort": "huge"}, 'invalid reasoning value: "huge"'),
        (
            openai.BadRequestError,
            {"tools": tools()},
            "registry.ollama.ai/library/plain:latest does not support tools",
        ),
        (openai.BadRequestError, {"top_logprobs": 21, "logprobs": True}, "between 0 and 20"),
    ],
)
def test_refusals_are_typed(
    client: openai.OpenAI, kind: type[openai.APIStatusError], asking: dict[str, Any], words: str
) -> None:
    request = {"model": "plain", "messages": asked("Hi."), **asking}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**request)

    assert words in caught.value.message
    expected = "not_found_error" if kind is openai.NotFoundError else "invalid_request_error"
    assert caught.value.type == expected


def test_a_busy_server_says_when_to_come_back(npu: Stack, client: openai.OpenAI) -> None:
    ask = partial(client.chat.completions.create, model="endless", messages=asked("Go."))
    with client_of(npu) as other:
        waiting = threading.Thread(target=lambda: wait_in_line(other))
        with ask(stream=True) as running:
            next(running)
            waiting.start()
            wait_until("one to wait", lambda: npu.queued() == 1)
            with pytest.raises(openai.InternalServerError) as caught:
                ask()
        waiting.join()

    assert (caught.value.status_code, caught.value.type) == (503, "api_error")
    assert BUSY in caught.value.message
    assert caught.value.response.headers["retry-after"] == "1"


def wait_in_line(client: openai.OpenAI) -> None:
    """Ask, and leave when it is one's turn."""
    stream = client.chat.completions.create(model="endless", messages=asked("Go."), stream=True)
    next(stream)
    stream.close()


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    key, text = new_key("me", Scope.INFER, now=datetime.now(UTC))
    keys = tmp_path / "keys.json"
    keys.write_text(Keys().having(key).model_dump_json())
    keys.chmod(0o600)
    with emulated(tmp_path, "abi-1.3.0", RKLLAMA_AUTH="all") as stack:
        with client_of(stack, "wrong") as stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        with client_of(stack, text) as friend:
            assert list(friend.models.list()) == []
