"""Tools and thinking, as a program written against Ollama uses them, from HTTP to the NPU's library.

The emulated model says what a script makes it say; its marks are special tokens, as some models' are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply

from tests.emulated import SPECIAL, create, emulated
from tests.stack import Stack

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'tool' %}{{ m.name }}: {{ m.content }}{% else %}{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
MARKS = {258: "<tool_call>", 259: "</tool_call>", 260: "<think>", 261: "</think>"}
ADD = '{"name": "add", "arguments": {"a": 3, "b": 5}}'
MULTIPLY = '{"name": "multiply", "arguments": {"a": 4, "b": 6}}'
THOUGHT = "The user wants\na sum."
REPLIES = [
    Reply(text=f"<tool_call>\n{ADD}\n</tool_call>", when="three and five"),
    Reply(text="It is eight.", when="add: 8"),
    Reply(
        text=f"Both.\n<tool_call>{ADD}</tool_call>\n<tool_call>{MULTIPLY}</tool_call>", when="both"
    ),
    Reply(text="Eight and twenty-four.", when="multiply: 24"),
    Reply(text=f"<think>\n{THOUGHT}\n</think>\n\nEight.", when="Think"),
    Reply(text=f"<think>{THOUGHT}</think>\n<tool_call>{ADD}</tool_call>", when="Look it up"),
    Reply(text='<tool_call>{"name": "divide", "arguments": {}}</tool_call>', when="unknown"),
    Reply(text='{"name": "Ada", "born": 1815}', when="JSON"),
    Reply(text="Not thought.", when="Hello.<|im_end|>\n<|im_start|>assistant\n<think>"),
]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


FUNCTIONS = {"add": add, "multiply": multiply}


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A board with `able`, which knows tools and thinks, and `plain`, which does neither."""
    folder = tmp_path_factory.mktemp("npu")
    with (
        emulated(folder, "abi-1.3.0") as running,
        ollama.Client(host=running.url, trust_env=False) as client,
    ):
        script = ModelScript(replies=REPLIES)
        create(client, "plain", script, folder, special=SPECIAL | MARKS)
        client.create("able", from_="plain", template=TEMPLATE)
        yield running


@pytest.fixture
def client(npu: Stack) -> Iterator[ollama.Client]:
    with ollama.Client(host=npu.url, trust_env=False) as client:
        yield client


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def called(message: ollama.Message) -> list[tuple[str, dict[str, Any]]]:
    return [(c.function.name, dict(c.function.arguments)) for c in message.tool_calls or ()]


def test_capabilities_are_told(client: ollama.Client) -> None:
    assert set(client.show("able").capabilities or ()) == {"completion", "tools", "thinking"}
    assert set(client.show("plain").capabilities or ()) == {"completion"}


@pytest.mark.parametrize("with_name", [True, False])
def test_a_tool_goes_round(client: ollama.Client, with_name: bool) -> None:
    """As in ollama-python's examples/tools.py; old clients do not say whose result it is."""
    messages = asked("What is three and five?")
    first = client.chat("able", messages, tools=[add, multiply], think=False)
    messages.append(first.message)
    for name, arguments in called(first.message):
        told = {"role": "tool", "content": str(FUNCTIONS[name](**arguments))}
        messages.append(told | ({"tool_name": name} if with_name else {}))
    second = client.chat("able", messages, tools=[add, multiply], think=False)

    assert (first.message.content, called(first.message)) == ("", [("add", {"a": 3, "b": 5})])
    assert first.done_reason == "stop"
    assert second.message.content == "It is eight."
    assert second.message.tool_calls is None


def test_several_calls_in_one_answer(client: ollama.Client) -> None:
    messages = asked("Do both.")
    first = client.chat("able", messages, tools=[add, multiply], think=False)
    messages.append(first.message)
    for name, arguments in called(first.message):
        result = str(FUNCTIONS[name](**arguments))
        messages.append({"role": "tool", "content": result, "tool_name": name})
    second = client.chat("able", messages, tools=[add, multiply], think=False)

    assert first.message.content == "Both."
    assert called(first.message) == [("add", {"a": 3, "b": 5}), ("multiply", {"a": 4, "b": 6})]
    assert second.message.content == "Eight and twenty-four."


def test_calls_are_streamed_whole(npu: Stack, http: httpx2.Client) -> None:
    """Each in a record of its own, without text; no record is empty but the last."""
    body = {
        "model": "able",
        "messages": asked("Do both."),
        "tools": [
            {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            for name in FUNCTIONS
        ],
        "think": False,
    }
    answer = http.post(f"{npu.url}/api/chat", json=body)
    *records, last = [json.loads(line) for line in answer.text.splitlines()]
    messages = [record["message"] for record in records]
    calls = [call for message in messages for call in message.get("tool_calls", ())]

    assert all(set(record) == {"model", "created_at", "message", "done"} for record in records)
    assert "".join(message["content"] for message in messages) == "Both."
    assert [m["content"] for m in messages if "tool_calls" in m] == ["", ""]
    assert all(message["content"] or "tool_calls" in message for message in messages)
    assert [call["function"] for call in calls] == [
        {"index": 0, "name": "add", "arguments": {"a": 3, "b": 5}},
        {"index": 1, "name": "multiply", "arguments": {"a": 4, "b": 6}},
    ]
    assert all(set(call) == {"id", "function"} for call in calls)
    assert all(re.fullmatch("call_[a-z0-9]{8}", call["id"]) for call in calls)
    assert calls[0]["id"] != calls[1]["id"]
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "stop")


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Something unknown.", '{"name": "divide", "arguments": {}}'),
        ("JSON, please.", '{"name": "Ada", "born": 1815}'),
    ],
)
def test_what_only_looks_like_a_call_is_content(
    client: ollama.Client, question: str, text: str
) -> None:
    """Special tokens are no text: the marks of a call that is none are not shown."""
    answer = client.chat("able", asked(question), tools=[add], think=False)

    assert answer.message.tool_calls is None
    assert (answer.message.content or "").strip() == text


def test_a_history_with_ids_in_the_shape_of_openai_is_understood(client: ollama.Client) -> None:
    """LangChain sends such messages."""
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        *asked("What is the sum?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "8", "tool_call_id": "call_1"},
    ]
    answer = client.chat("able", messages, tools=[add], think=False)

    assert answer.message.content == "It is eight."


@pytest.mark.parametrize("think", [True, None, "low", "high"])
def test_thinking_is_streamed_first_and_apart(
    client: ollama.Client, think: bool | str | None
) -> None:
    """Unset, a model that can think does."""
    records = list(client.chat("able", asked("Think."), think=think, stream=True))
    kinds = ["thinking" if r.message.thinking else "content" for r in records[:-1]]

    assert "".join(r.message.thinking or "" for r in records) == THOUGHT
    assert "".join(r.message.content or "" for r in records) == "Eight."
    assert kinds == sorted(kinds, reverse=True)
    assert all(not (r.message.thinking and r.message.content) for r in records)


def test_thinking_is_told_apart_without_a_stream(client: ollama.Client) -> None:
    chat = client.chat("able", asked("Think."), think=True)
    generated = client.generate("able", "Think.", think=True)

    assert (chat.message.thinking, chat.message.content) == (THOUGHT, "Eight.")
    assert (generated.thinking, generated.response) == (THOUGHT, "Eight.")


def test_asked_not_to_think_the_template_says_so(client: ollama.Client) -> None:
    chat = client.chat("able", asked("Hello."), think=False)
    generated = client.generate("able", "Hello.", think=False)

    assert (chat.message.thinking, chat.message.content) == (None, "Not thought.")
    assert (generated.thinking, generated.response) == (None, "Not thought.")


@pytest.mark.parametrize("stream", [True, False])
def test_thinking_may_end_in_a_call(client: ollama.Client, *, stream: bool) -> None:
    question = asked("Look it up.")
    if stream:
        records = list(client.chat("able", question, tools=[add], think=True, stream=True))
    else:
        records = [client.chat("able", question, tools=[add], think=True)]
    messages = [record.message for record in records]

    assert "".join(message.thinking or "" for message in messages) == THOUGHT
    assert "".join(message.content or "" for message in messages) == ""
    assert [one for message in messages for one in called(message)] == [("add", {"a": 3, "b": 5})]
    assert records[-1].done_reason == "stop"


@pytest.mark.parametrize(
    ("asking", "words"),
    [
        ({"tools": [add]}, "registry.ollama.ai/library/plain:latest does not support tools"),
        ({"think": True}, '"plain" does not support thinking'),
        ({"think": "high"}, '"plain" does not support thinking'),
    ],
)
def test_a_model_that_cannot_says_so(
    client: ollama.Client, asking: dict[str, Any], words: str
) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("plain", asked("Hi."), **asking)

    assert caught.value.status_code == 400
    assert caught.value.error == words


def test_no_tools_and_no_thought_need_no_capability(client: ollama.Client) -> None:
    answer = client.chat("plain", asked("JSON, please."), tools=[], think=False)

    assert answer.message.content == '{"name": "Ada", "born": 1815}'
