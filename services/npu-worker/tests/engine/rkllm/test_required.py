"""A format, or the call of a tool, from a runtime that has no grammar: asked for, checked, asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.messages import Job, Resume
from rkllm_bindings.emulator import Reply

if TYPE_CHECKING:
    from conftest import Answered, Emulate, Emulated

MakeJob = Callable[..., Job]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "required": ["city"]},
    },
}
REPLIES = (
    Reply(text='{"n": 3}', when="At once?"),
    Reply(text='```json\n{"n": 3}\n```', when="Fenced?"),
    Reply(text="Sure: three!", when="In time?"),
    Reply(text='{"n": "three"}', when="it is not JSON"),
    Reply(text='{"n": 3}', when='"three" is not of type "integer"'),
    Reply(text='{"m": 3}', when="Never?"),
    Reply(text='{"o": 3}', when='"n" is a required property'),
    Reply(text='{"name": "weather", "arguments": {"city": "Rome"}}', when="Weather?"),
    Reply(text='{"n": 3' + " " * 4000, when="Endless?"),
)


@pytest.fixture(scope="module")
def shared(newest: Path, emulate_shared: Callable[..., Iterator[Emulated]]) -> Iterator[Emulated]:
    yield from emulate_shared(
        newest, replies=REPLIES, prefill_tokens_per_s=20_000, decode_tokens_per_s=2_000
    )


@pytest.fixture
def asked(shared: Emulated) -> Emulated:
    """A model that does not always do as it is told; its trace begins with the test."""
    shared.forget()
    return shared


def prompts(model: Emulated) -> list[str]:
    """What the model was asked, run by run."""
    return [model.script.text(run["ids"]).decode() for run in model.trace("run")]


def silent_until_its_end(answer: Answered) -> bool:
    return all(
        chunk.ids and not (chunk.content or chunk.thinking or chunk.tool_calls)
        for chunk in answer.chunks[:-1]
    ) and [chunk.seq for chunk in answer.chunks] == list(range(len(answer.chunks)))


def test_what_is_right_at_once_is_shown_whole(asked: Emulated, make_job: MakeJob) -> None:
    answer = asked.ask(make_job("At once?", format=SCHEMA))

    assert silent_until_its_end(answer)
    assert (answer.last.content, answer.last.finish) == ('{"n": 3}', "stop")
    assert bytes(answer.ids) == b'{"n": 3}'
    assert len(prompts(asked)) == 1
    assert "At once?\n\nAnswer with JSON that satisfies this schema" in prompts(asked)[0]
    assert json.dumps(SCHEMA) in prompts(asked)[0]


def test_what_is_wrong_is_asked_for_again(asked: Emulated, make_job: MakeJob) -> None:
    """Counts and durations are those of all attempts; the prompt's is that of the client's."""
    answer = asked.ask(make_job("In time?", format=SCHEMA))

    assert silent_until_its_end(answer)
    assert (answer.last.content, answer.last.finish) == ('{"n": 3}', "stop")
    assert bytes(answer.ids) == b'Sure: three!{"n": "three"}{"n": 3}'
    first, second, third = prompts(asked)
    assert second.startswith(first + "Sure: three!")
    assert third.startswith(second + '{"n": "three"}')
    assert '"three" is not of type "integer" at [\'n\']' in third
    ends = asked.trace("run_end")
    # What was said before is not read again.
    assert all(end["reused"] for end in ends[1:])
    prefilled = sum(end["prefilled"] for end in ends)
    assert answer.last.prefill_ns == pytest.approx(prefilled / 20_000 * 1e9, rel=1e-3)
    assert answer.last.decode_ns == pytest.approx(len(answer.ids) / 2_000 * 1e9, rel=1e-3)
    assert answer.ended.generated_tokens == len(answer.ids)
    assert answer.ended.prompt_tokens - answer.ended.reused_tokens == prefilled
    assert [chunk.prompt_tokens for chunk in answer.chunks if chunk.prompt_tokens] == [
        len(asked.trace("run")[0]["ids"])
    ]


def test_what_stays_wrong_fails_in_plain_sight(asked: Emulated, make_job: MakeJob) -> None:
    answer = asked.ask(make_job("Never?", format=SCHEMA))

    assert len(prompts(asked)) == 3
    assert silent_until_its_end(answer)
    assert (answer.last.finish, answer.last.error_code) == ("", "runtime_failed")
    assert "did not answer as asked in 3 attempts" in answer.last.error_message
    assert '"n" is a required property' in answer.last.error_message
    assert answer.last.content == ""
    assert asked.ask(make_job("At once?", format=SCHEMA)).last.content == '{"n": 3}'


def test_a_call_is_as_good_as_an_answer_in_a_format(asked: Emulated, make_job: MakeJob) -> None:
    called = asked.ask(make_job("Weather?", tools=(WEATHER,), format=SCHEMA))
    answered = asked.ask(make_job("At once?", tools=(WEATHER,), format=SCHEMA))

    assert [call["function"]["arguments"] for call in called.last.tool_calls] == [{"city": "Rome"}]
    assert (called.last.content, answered.last.content) == ("", '{"n": 3}')
    assert len(prompts(asked)) == 2


def test_a_fence_around_it_is_no_fault(asked: Emulated, make_job: MakeJob) -> None:
    answer = asked.ask(make_job("Fenced?", format=SCHEMA))

    assert (answer.last.content, len(prompts(asked))) == ('{"n": 3}', 1)


def test_what_was_cut_off_is_not_asked_for_again(asked: Emulated, make_job: MakeJob) -> None:
    """It would be cut off again; and nothing says that its begin was right."""
    answer = asked.ask(make_job("At once?", format=SCHEMA, num_predict=5))

    assert len(prompts(asked)) == 1
    assert len(answer.ids) == 5
    assert answer.last.error_code == "invalid_job"
    assert "the answer was cut off after 5 tokens" in answer.last.error_message


def test_all_attempts_together_are_as_long_as_a_context(
    emulate: Emulate, newest: Path, make_job: MakeJob
) -> None:
    model = emulate(newest, replies=REPLIES)
    model.load(num_ctx=600)

    answer = model.ask(make_job("Endless?", format=SCHEMA))

    assert answer.last.error_code == "runtime_failed"
    assert len(answer.ids) < 600
    assert len(prompts(model)) == 1


def test_a_tool_that_is_forced_is_called(asked: Emulated, make_job: MakeJob) -> None:
    job = make_job("Weather?", tools=(WEATHER,), forced_tools=("weather",))

    answer = asked.ask(job)

    (call,) = answer.last.tool_calls
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}
    assert silent_until_its_end(answer)
    assert (answer.last.content, answer.last.finish) == ("", "stop")
    assert "Answer with a call of the tool `weather`" in prompts(asked)[0]


def test_another_board_begins_anew_since_nothing_was_shown(
    asked: Emulated, make_job: MakeJob
) -> None:
    resume = Resume(ids=tuple(b"Sure: th"), prompt_hash="0" * 16)

    answer = asked.ask(make_job("At once?", format=SCHEMA, resume=resume))

    assert answer.last.content == '{"n": 3}'
    assert bytes(answer.ids) == b'{"n": 3}'


def test_an_abort_ends_it(asked: Emulated, make_job: MakeJob) -> None:
    run = asked.begin(make_job("Endless?", format=SCHEMA))
    chunks = [asked.engine.chunk()[1] for _ in range(9)]
    asked.engine.abort(run)

    rest = asked.rest(run)

    assert not any(chunk.content for chunk in chunks)
    assert (rest.ended.aborted, rest.ended.last_seq) == (True, -1)
    assert asked.ask(make_job("At once?", format=SCHEMA)).last.content == '{"n": 3}'


def test_a_run_that_fails_is_not_asked_again(
    emulate: Emulate, newest: Path, make_job: MakeJob
) -> None:
    model = emulate(newest, replies=REPLIES, fault="error", fault_after=3)
    model.load()

    answer = model.ask(make_job("At once?", format=SCHEMA))

    assert answer.last.error_code == "runtime_failed"
    assert len(prompts(model)) == 1


@pytest.mark.parametrize("schema", [{"type": "objec"}, {"$ref": "http://127.0.0.1:1/"}])
def test_a_schema_that_is_none_is_refused_before_anything_runs(
    asked: Emulated, make_job: MakeJob, schema: dict[str, Any]
) -> None:
    answer = asked.ask(make_job("At once?", format=schema))

    assert answer.last.error_code == "invalid_job"
    assert prompts(asked) == []


def test_logprobs_are_refused_in_clear_words(asked: Emulated, make_job: MakeJob) -> None:
    answer = asked.ask(make_job("At once?", top_logprobs=0))

    assert answer.last.error_code == "unsupported"
    assert "does not tell logprobs" in answer.last.error_message
    assert prompts(asked) == []
