"""The clients' own SDKs on the real small model, held to formats and calls it would not make by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from pydantic import BaseModel, Field

from tests.integration.conftest import MODEL
from tests.stack import Stack

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
ALICE: list[Any] = [
    {"role": "user", "content": "Tell me about Alice, who is 34 and likes chess and running."}
]


class Person(BaseModel):
    name: str
    age: int


class Enthusiast(Person):
    hobbies: set[str] = Field(max_length=3)


@pytest.fixture(scope="module")
def chat(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="unused", max_retries=0) as client:
        yield client


def tools() -> list[Any]:
    function = {"name": "get_weather", "description": "Weather in a city", "parameters": WEATHER}
    return [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_is_made_where_one_is_asked_for(chat: openai.OpenAI, choice: Any) -> None:
    """And streamed, as the client's own accumulator reads it."""
    with chat.chat.completions.stream(
        model=MODEL, messages=QUESTION, tools=tools(), tool_choice=choice, temperature=0
    ) as stream:
        answer = stream.get_final_completion().choices[0]

    assert answer.finish_reason == "tool_calls"
    assert answer.message.tool_calls is not None
    [call] = answer.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_a_call_goes_round(chat: openai.OpenAI) -> None:
    """Its result is in the next prompt, by the model's own template."""
    asked: dict[str, Any] = {"model": MODEL, "tools": tools(), "temperature": 0}
    called = chat.chat.completions.create(messages=QUESTION, tool_choice="required", **asked)
    assert called.choices[0].message.tool_calls is not None
    result = {
        "role": "tool",
        "tool_call_id": called.choices[0].message.tool_calls[0].id,
        "content": "It is raining frogs.",
    }
    shown = chat.chat.completions.create(
        messages=[*QUESTION, called.choices[0].message, result],  # type: ignore[list-item]
        extra_body={"_debug_render_only": True},
        **asked,
    )

    rendered = shown.to_dict()["_debug_info"]["rendered_template"]  # type: ignore[index]
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}' in rendered
    assert "<tool_response>\nIt is raining frogs.\n</tool_response>" in rendered


def test_claude_codes_shape_of_a_forced_call(claude: anthropic.Anthropic) -> None:
    """System and content in blocks, with what this server does not know beside them."""
    answer = claude.messages.create(
        model=MODEL,
        max_tokens=200,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "get_weather", "input_schema": WEATHER}],
        tool_choice={"type": "any"},
        messages=QUESTION,
        extra_query={"beta": "true"},
        extra_body={"context_management": {"edits": []}, "temperature": 0},
    )

    assert answer.stop_reason == "tool_use"
    [block] = answer.content
    assert block.type == "tool_use"
    assert block.input == {"city": "Paris"}


def test_an_answer_is_a_pydantic_model_in_every_dialect(
    stack: Stack, chat: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    parsed = chat.chat.completions.parse(
        model=MODEL, messages=ALICE, response_format=Person, temperature=0
    )
    responded = chat.responses.parse(model=MODEL, input=ALICE, text_format=Person, temperature=0)
    told = claude.messages.parse(
        model=MODEL,
        max_tokens=500,
        messages=ALICE,
        output_format=Person,
        extra_body={"temperature": 0},
    )
    with ollama.Client(host=stack.url, trust_env=False) as client:
        native = client.chat(
            MODEL, ALICE, format=Person.model_json_schema(), options={"temperature": 0}
        )

    people = [
        parsed.choices[0].message.parsed,
        responded.output_parsed,
        told.parsed_output,
        Person.model_validate_json(native.message.content or ""),
    ]
    assert people[0] is not None
    assert (people[0].name, people[0].age) == ("Alice", 34)
    assert people == [people[0]] * 4


def test_what_no_grammar_can_say_is_checked_in_the_end(chat: openai.OpenAI) -> None:
    """A set is a list of unlike things; this model says the first of them again."""
    with pytest.raises(openai.InternalServerError, match="has non-unique elements"):
        chat.chat.completions.parse(
            model=MODEL, messages=ALICE, response_format=Enthusiast, temperature=0
        )


def test_half_a_document_is_no_answer(stack: Stack, chat: openai.OpenAI) -> None:
    """Not in a stream either: there it ends with what is wrong."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": ALICE,
        "max_tokens": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": Person.model_json_schema()},
        },
    }
    with pytest.raises(openai.BadRequestError, match="cut off after 5 tokens"):
        chat.chat.completions.create(**asked)
    with pytest.raises(openai.APIError, match="cut off after 5 tokens"):
        list(chat.chat.completions.create(stream=True, **asked))
    with (
        ollama.Client(host=stack.url, trust_env=False) as client,
        pytest.raises(ollama.ResponseError, match="cut off after 5 tokens") as native,
    ):
        client.chat(MODEL, ALICE, format=Person.model_json_schema(), options={"num_predict": 5})

    assert native.value.status_code == 400


def test_log_probabilities_are_told(chat: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0}
    chatted = chat.chat.completions.create(
        messages=QUESTION, max_completion_tokens=4, logprobs=True, top_logprobs=2, **asked
    )
    completed = chat.completions.create(prompt="Paris is", max_tokens=4, logprobs=2, **asked)
    responded = chat.responses.create(
        input=QUESTION,
        max_output_tokens=4,
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        **asked,
    )

    logprobs = chatted.choices[0].logprobs
    assert logprobs is not None
    assert [len(entry.top_logprobs) for entry in logprobs.content or ()] == [2] * 4
    older = completed.choices[0].logprobs
    assert older is not None
    assert len(older.tokens or ()) == len(older.top_logprobs or ()) == 4
    [message] = responded.output
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    assert len(message.content[0].logprobs or ()) == 4
