"""What a job requires of its answer: read, put in words, and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.messages import ChatMessage, Job
from rkllama_worker.engine.instruction import asking, asking_again
from rkllama_worker.engine.requirement import required, unfenced

MakeJob = Callable[..., Job]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
BROKEN = {
    "type": "function",
    "function": {"name": "broken", "parameters": {"properties": {"a": {"type": "nope"}}}},
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": "call_a", "function": {"index": 0, "name": name, "arguments": arguments}}


def problem(job: Job, content: str, *calls: dict[str, Any]) -> str:
    requirement = required(job)
    assert requirement is not None
    return requirement.problem(content, calls)


def test_most_jobs_require_nothing(make_job: MakeJob) -> None:
    assert required(make_job("Hi", tools=(TOOL,))) is None


@pytest.mark.parametrize(
    ("wanted", "content", "complaint"),
    [
        ("json", '{"a": 1}', ""),
        ("json", ' {"a": 1}\n', ""),
        ("json", "[1]", "not of type"),
        ("json", '{"a": 1', "it is not JSON"),
        ("json", "Sure! {}", "it is not JSON"),
        ("json", "", "it is not JSON"),
        ("json", '{"a": NaN}', "NaN is no JSON"),
        ("json", "[" * 100_000, "it is nested too deeply"),
        ({"type": "integer", "minimum": 3}, "2", "less than the minimum"),
        ({"type": "array", "uniqueItems": True}, "[1, 1]", "non-unique"),
        ({"properties": {"to": {"format": "email"}}}, '{"to": "me"}', "at ['to']"),
        ({"properties": {"to": {"format": "email"}}}, '{"to": "me@x.org"}', ""),
        ({"type": "string", "format": "shoe-size"}, '"any"', ""),
        ({"type": "string", "format": "date"}, '"2026-02-30"', "date"),
        ({"not": {"type": "string"}}, "1", ""),
        ({"type": "string", "pattern": "^(a+)+$"}, '"' + "a" * 60 + 'b"', "does not match"),
        ({"$defs": {"n": {"type": "null"}}, "$ref": "#/$defs/n"}, "null", ""),
    ],
)
def test_content_is_checked_against_the_whole_schema(
    make_job: MakeJob, wanted: Any, content: str, complaint: str
) -> None:
    found = problem(make_job(format=wanted), content)

    assert complaint in found
    assert bool(found) is bool(complaint)


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ([call("weather", city="Rome")], ""),
        ([call("weather", city="Rome"), call("weather", city="Oslo")], ""),
        ([], "it calls no tool"),
        ([call("clock")], "it calls `clock`"),
        ([call("weather", town="Rome")], "the arguments of `weather` are wrong"),
    ],
)
def test_a_forced_call_is_checked_with_its_arguments(
    make_job: MakeJob, calls: list[dict[str, Any]], complaint: str
) -> None:
    found = problem(make_job(tools=(TOOL, CLOCK), forced_tools=("weather",)), "", *calls)

    assert complaint in found
    assert bool(found) is bool(complaint)


def test_a_call_is_as_good_as_an_answer_in_a_format(make_job: MakeJob) -> None:
    """An agent has tools, and a format for what it says in the end."""
    job = make_job(tools=(TOOL, CLOCK), format={"type": "integer"})

    assert problem(job, "", call("weather", city="Rome")) == ""
    assert problem(job, "3") == ""
    assert "it is not JSON" in problem(job, "It rains.")
    requirement = required(job)
    assert requirement is not None
    assert requirement.instruction.startswith("Unless you call a tool, answer with JSON")


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"format": {"type": "objec"}}, "invalid JSON schema in format: .*objec"),
        ({"format": {"$ref": "http://127.0.0.1:1/schema"}}, "invalid JSON schema in format"),
        ({"format": {"$ref": "file:///etc/hostname"}}, "invalid JSON schema in format"),
        ({"tools": (TOOL,), "forced_tools": ("stove",)}, "there is no tool stove"),
        ({"tools": (BROKEN,), "forced_tools": ("broken",)}, "invalid JSON schema in tool broken"),
    ],
)
def test_a_schema_that_is_none_is_refused(
    make_job: MakeJob, wishes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidJobError, match=reason):
        required(make_job("Hi", **wishes))


@pytest.mark.parametrize(
    ("content", "inner"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("\n```\n[1,\n2]\n```\n", "[1,\n2]"),
        ('{"a": "```"}', '{"a": "```"}'),
        ("so:\n```json\n{}\n```", "so:\n```json\n{}\n```"),
    ],
)
def test_a_fence_around_all_of_it_is_taken_off(content: str, inner: str) -> None:
    assert unfenced(content) == inner


def test_the_words_stand_at_the_end_of_the_last_question(make_job: MakeJob) -> None:
    job = make_job("One?", "1.", "Two?", format={"type": "integer"})
    requirement = required(job)
    assert requirement is not None

    asked = asking(job, requirement)
    again = asking_again(asked, requirement, answer="two", problem="it is not JSON")

    assert asked.messages[:2] == job.messages[:2]
    assert asked.messages[2].content.startswith("Two?\n\nAnswer with JSON")
    assert asked.messages[2].content.endswith('{"type": "integer"}')
    assert again.messages[:3] == asked.messages
    assert [one.role for one in again.messages[3:]] == ["assistant", "user"]
    assert again.messages[3].content == "two"
    assert "it is not JSON" in again.messages[4].content
    assert not again.truncate


def test_a_tools_answer_is_not_written_into(make_job: MakeJob) -> None:
    messages = (
        ChatMessage(role="user", content="Weather?"),
        ChatMessage(role="tool", content="rain"),
    )
    job = make_job(messages=messages, tools=(TOOL,), forced_tools=("weather",))
    requirement = required(job)
    assert requirement is not None

    asked = asking(job, requirement)

    assert asked.messages[1] == messages[1]
    assert "a call of the tool `weather`" in asked.messages[0].content


def test_a_prompt_that_is_sent_as_it_is_stays_so(make_job: MakeJob) -> None:
    job = make_job(kind="completion", prompt="Hi", format="json")
    requirement = required(job)
    assert requirement is not None

    assert asking(job, requirement) == job
