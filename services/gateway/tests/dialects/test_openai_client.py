"""OpenAI's own client on the golden streams, fed to it a byte at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

GOLDEN = Path(__file__).parent / "golden"


@contextmanager
def fed(name: str) -> Iterator[openai.OpenAI]:
    """A client whose connection brings one golden stream, whatever it asks."""
    stream = (GOLDEN / f"openai_{name}.txt").read_bytes()

    def dribble(_: httpx2.Request) -> httpx2.Response:
        pieces = (stream[at : at + 1] for at in range(len(stream)))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=pieces)

    transport = httpx2.Client(transport=httpx2.MockTransport(dribble))
    with openai.OpenAI(api_key="unused", http_client=transport) as client:
        yield client


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"openai_{name}.txt").read_bytes())


def test_a_streamed_chat_adds_up_to_the_whole_one() -> None:
    whole = golden("chat_whole")["choices"][0]
    with (
        fed("chat_stream") as client,
        client.chat.completions.stream(model="m", messages=[]) as stream,
    ):
        choice = stream.get_final_completion().choices[0]

    assert choice.finish_reason == whole["finish_reason"]
    assert choice.message.content == whole["message"]["content"]
    calls = [call.to_dict() for call in choice.message.tool_calls or ()]
    assert [call["function"]["name"] for call in calls] == ["f", "g"]
    for call, expected in zip(calls, whole["message"]["tool_calls"], strict=True):
        assert call["id"] == expected["id"]
        assert call["function"]["arguments"] == expected["function"]["arguments"]


def test_a_streamed_completion_adds_up_to_the_whole_one() -> None:
    with fed("completion_stream_usage") as client:
        chunks = list(client.completions.create(model="m", prompt="x", stream=True))

    whole = golden("completion_whole")
    assert "".join(each.text for chunk in chunks for each in chunk.choices) == "a"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.to_dict() == whole["usage"]


def test_a_streamed_response_adds_up_to_the_whole_one() -> None:
    whole = golden("response_whole")
    with fed("response_stream") as client, client.responses.stream(model="m", input="x") as stream:
        numbers = [event.sequence_number for event in stream]
        response = stream.get_final_response()

    assert numbers == list(range(len(numbers)))
    assert [item.id for item in response.output] == [item["id"] for item in whole["output"]]
    assert response.output_text == whole["output"][1]["content"][0]["text"]
    assert response.usage is not None
    assert response.usage.total_tokens == whole["usage"]["total_tokens"]


def test_every_event_of_a_response_is_in_a_golden_stream() -> None:
    """Contract 3.5, and how a response ends that is cut or fails."""
    told = [
        line.removeprefix("event: ")
        for path in GOLDEN.glob("openai_response_stream*.txt")
        for line in path.read_text().splitlines()
        if line.startswith("event: ")
    ]

    assert set(told) == {
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
    }


def test_a_chat_that_fails_in_its_midst_raises_after_what_came() -> None:
    with fed("chat_stream_failed") as client:
        chunks = client.chat.completions.create(model="m", messages=[], stream=True)
        first = next(chunks)
        with pytest.raises(openai.APIError, match="the board is gone") as caught:
            list(chunks)

    assert first.choices[0].delta.content == "a"
    assert (caught.value.type, caught.value.param) == ("api_error", None)


def test_a_completion_that_fails_in_its_midst_raises_after_what_came() -> None:
    with fed("completion_stream_failed") as client:
        chunks = client.completions.create(model="m", prompt="x", stream=True)
        first = next(chunks)
        with pytest.raises(openai.APIError, match="the board is gone"):
            list(chunks)

    assert first.choices[0].text == "a"


def test_a_response_that_fails_says_so_in_its_last_event() -> None:
    with fed("response_stream_failed") as client:
        *_, last = client.responses.create(model="m", input="x", stream=True)

    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "the board is gone"
    assert last.response.output_text == "a"


def test_a_response_that_was_cut_says_so_in_its_last_event() -> None:
    with fed("response_stream_cut") as client:
        *_, last = client.responses.create(model="m", input="x", stream=True)

    assert last.type == "response.incomplete"
    assert last.response.output_text == "a"


@pytest.mark.parametrize(
    "name", ["chat_stream", "chat_stream_usage", "chat_stream_empty", "chat_stream_logprobs"]
)
def test_every_chunk_of_a_chat_is_what_was_sent(name: str) -> None:
    """All fields of each, those that the client has no names for among them."""
    lines = (GOLDEN / f"openai_{name}.txt").read_text().split("\n\n")
    sent = [json.loads(line.removeprefix("data: ")) for line in lines if line[:7] == "data: {"]
    with fed(name) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))

    assert [chunk.to_dict(mode="json") for chunk in chunks] == sent


@pytest.mark.parametrize(
    "name",
    [
        "response_stream",
        "response_stream_empty",
        "response_stream_cut",
        "response_stream_failed",
    ],
)
def test_every_event_of_a_response_is_what_was_sent(name: str) -> None:
    lines = (GOLDEN / f"openai_{name}.txt").read_text().splitlines()
    sent = [json.loads(line.removeprefix("data: ")) for line in lines if line[:6] == "data: "]
    with fed(name) as client:
        events = list(client.responses.create(model="m", input="x", stream=True))

    assert [event.to_dict(mode="json") for event in events] == sent
