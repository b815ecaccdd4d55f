"""Conversations with tools and thinking, as the templates of the known families render them.

The templates beside this file are laid out as those of the models they are named for, with the same
demands: arguments as an object or as text, ids of nine letters, one call a message.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rkllama_protocol.messages import ChatMessage, Job
from rkllama_protocol.templates import TAGS, reads_tools, thinking_tags, thinks
from rkllama_worker.engine.history import CallShape, shaped, thinking_variables
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.prompt import PromptBuilder

MakeJob = Callable[..., Job]
FOLDER = Path(__file__).parent / "templates"
NAMES = ("qwen3", "llama3.1", "mistral", "deepseek-r1")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def template(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def call(name: str, call_id: str = "", **arguments: Any) -> dict[str, Any]:
    function = {"index": 0, "name": name, "arguments": arguments}
    return {"id": call_id, "function": function} if call_id else {"function": function}


def user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def assistant(content: str = "", *calls: dict[str, Any], thinking: str = "") -> ChatMessage:
    return ChatMessage(role="assistant", content=content, tool_calls=calls, thinking=thinking)


def result(content: str, *, name: str = "", call_id: str = "") -> ChatMessage:
    return ChatMessage(role="tool", content=content, tool_name=name, tool_call_id=call_id)


TWO_CALLS = (
    user("Compare."),
    assistant("", call("look", "call_k2m4q8zz", at="sky"), call("look", "call_11aa22bb", at="sea")),
    result("blue", call_id="call_k2m4q8zz"),
    result("green", call_id="call_11aa22bb"),
)


def rendered(facts: ModelFiles, job: Job, source: str) -> str:
    files = dataclasses.replace(facts, templates={"default": source}, named_tokens=TOKENS)
    return PromptBuilder(files, context_length=8192).build(job).text


EXPECTED = {
    "qwen3": (
        '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "look", "arguments": {"at": "sea"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nblue\n</tool_response>\n"
        "<tool_response>\ngreen\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3.1": (
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "look", "parameters": {"at": "sky"}}'
        '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"blue"<|eot_id|>'
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "look", "parameters": {"at": "sea"}}'
        '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"green"<|eot_id|>'
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "mistral": (
        '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "sky"}, "id": "FIRST"}, '
        '{"name": "look", "arguments": {"at": "sea"}, "id": "SECOND"}]</s>'
        '[TOOL_RESULTS] {"content": blue, "call_id": "FIRST"}[/TOOL_RESULTS]'
        '[TOOL_RESULTS] {"content": green, "call_id": "SECOND"}[/TOOL_RESULTS]'
    ),
    "deepseek-r1": (
        "<｜tool▁calls▁begin｜>"  # noqa: RUF001 - the model's own
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{"at": "sky"}\n```<｜tool▁call▁end｜>'  # noqa: RUF001
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{"at": "sea"}\n```<｜tool▁call▁end｜>'  # noqa: RUF001
        "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"  # noqa: RUF001
        "<｜tool▁output▁begin｜>blue<｜tool▁output▁end｜>"  # noqa: RUF001
        "<｜tool▁output▁begin｜>green<｜tool▁output▁end｜>"  # noqa: RUF001
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_calls_and_results_are_rendered_as_the_model_knows_them(
    facts: ModelFiles, make_job: MakeJob, name: str
) -> None:
    text = rendered(facts, make_job(messages=TWO_CALLS, tools=(TOOL,)), template(name))
    ids = [shaped(TWO_CALLS, CallShape(short_ids=True))[i]["tool_call_id"] for i in (2, 3)]
    expected = EXPECTED[name].replace("FIRST", ids[0]).replace("SECOND", ids[1])

    assert text.endswith(expected)
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "messages",
    [
        (*TWO_CALLS[:1], assistant("", call("look", at="sky")), result("blue")),
        (*TWO_CALLS[:1], assistant("", call("look", at="sky")), result("blue", name="look")),
        (*TWO_CALLS, assistant("Both."), user("And now?")),
    ],
    ids=["without ids", "by name", "an earlier turn"],
)
def test_no_template_refuses_what_clients_send(
    facts: ModelFiles, make_job: MakeJob, name: str, messages: tuple[ChatMessage, ...]
) -> None:
    text = rendered(facts, make_job(messages=messages, tools=(TOOL,)), template(name))

    assert '"at": "sky"' in text
    assert "blue" in text


def test_an_empty_text_beside_calls_makes_no_turn_of_its_own(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """DeepSeek's later template prints both, calls and content, the latter unless it is none."""
    source = (
        "{% for m in messages %}{% for call in m.tool_calls or [] %}"
        "[{{ call.function.name }} {{ call.function.arguments | tojson }}]{% endfor %}"
        "{% if m.content is not none %}<{{ m.content }}>{% endif %}{% endfor %}"
    )
    text = rendered(facts, make_job(messages=TWO_CALLS), source)

    assert text == '<Compare.>[look {"at": "sky"}][look {"at": "sea"}]<blue><green>'


@pytest.mark.parametrize("name", ["qwen3", "llama3.1", "mistral"])
def test_the_tools_stand_in_the_prompt(facts: ModelFiles, make_job: MakeJob, name: str) -> None:
    with_tools = rendered(facts, make_job("Hi", tools=(TOOL,)), template(name))
    without = rendered(facts, make_job("Hi"), template(name))

    assert '"look"' in with_tools
    assert '"look"' not in without


@pytest.mark.parametrize(
    ("results", "answered"),
    [
        ([result("1"), result("2")], ["a", "b"]),
        ([result("1", name="hear"), result("2", name="look")], ["b", "a"]),
        ([result("1", call_id="b"), result("2")], ["b", "a"]),
        ([result("1", call_id="b"), result("2", call_id="a")], ["b", "a"]),
        ([result("1", call_id="unknown"), result("2")], ["a", "b"]),
        ([result("1"), result("2"), result("3", call_id="c")], ["a", "b", "c"]),
    ],
)
def test_a_result_belongs_to_the_call_it_names_or_to_the_next_one(
    results: list[ChatMessage], answered: list[str]
) -> None:
    messages = [assistant("", call("look", "a"), call("hear", "b")), *results]
    told = shaped(messages, CallShape())[1:]

    assert [message["tool_call_id"] for message in told] == answered
    named = {"a": "look", "b": "hear"}
    assert [m.get("name") for m in told] == [named.get(one) for one in answered]


def test_calls_without_an_id_get_one_that_stays() -> None:
    """When older messages are dropped, the rest of the prompt must stay what it was."""
    turn = [assistant("", call("look", at="sky"), call("look", at="sky")), result("1"), result("2")]
    asked, first, second = shaped(turn, CallShape())
    later = shaped([user("Hi"), assistant("", call("hear")), result("0"), *turn], CallShape())[3:]
    ids = [one["id"] for one in asked["tool_calls"]]

    assert [first["tool_call_id"], second["tool_call_id"]] == ids
    assert ids[0] != ids[1]
    assert later == [asked, first, second]


def test_thinking_of_earlier_turns_is_left_out(facts: ModelFiles, make_job: MakeJob) -> None:
    """The client may send it back apart or in its tags (contract 2.8)."""
    messages = (
        user("One?"),
        assistant("<think>\nfirst thought\n</think>\n\nOne."),
        user("Two?"),
        assistant("Two.", thinking="second thought"),
        user("Three?"),
        assistant("", call("look"), thinking="third thought"),
        result("3"),
    )
    text = rendered(facts, make_job(messages=messages), template("qwen3"))

    assert "first thought" not in text
    assert "<|im_start|>assistant\nOne.<|im_end|>" in text
    assert "second thought" not in text
    assert "<think>\nthird thought\n</think>" in text


def test_tags_that_are_no_thinking_stay() -> None:
    messages = [assistant("The tag <think> opens, </think> closes."), user("Ah.")]

    assert shaped(messages, CallShape(), TAGS[0])[0]["content"] == messages[0].content


@pytest.mark.parametrize(
    ("think", "source", "variables"),
    [
        (None, "{{ 'no tags' }}", {}),
        (None, "</think>", {"enable_thinking": True, "thinking": True}),
        (True, "</think>", {"enable_thinking": True, "thinking": True}),
        ("low", "", {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}),
        ("max", "'high'", {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
        ("max", "'max'", {"enable_thinking": True, "thinking": True, "reasoning_effort": "max"}),
        (False, "</think>", {"enable_thinking": False, "thinking": False, "thinking_budget": 0}),
    ],
)
def test_the_wish_to_think_has_the_names_that_templates_read(
    make_job: MakeJob, think: bool | str | None, source: str, variables: dict[str, object]
) -> None:
    assert thinking_variables(make_job(think=think), source, thinking_tags(source)) == variables


@pytest.mark.parametrize(
    ("name", "tools", "thinking"),
    [
        ("qwen3", True, True),
        ("llama3.1", True, False),
        ("mistral", True, False),
        ("deepseek-r1", False, True),
    ],
)
def test_a_template_shows_what_its_model_can_do(name: str, tools: bool, thinking: bool) -> None:
    """DeepSeek's prints calls, but never the tools there are."""
    assert reads_tools(template(name)) is tools
    assert thinks(template(name)) is thinking


def test_arguments_are_handed_over_unchanged() -> None:
    arguments: dict[str, Any] = {"text": "Málaga", "deep": [{"a": None}]}
    message = assistant("", call("look", **arguments))

    (plain,) = shaped([message], CallShape())
    (text,) = shaped([message], CallShape(text_arguments=True))

    assert plain["tool_calls"][0]["function"] == {"name": "look", "arguments": arguments}
    assert json.loads(text["tool_calls"][0]["function"]["arguments"]) == arguments
