"""OpenAI's own client on the golden streams, fed to it a byte at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai

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
