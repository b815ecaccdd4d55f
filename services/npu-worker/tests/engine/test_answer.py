"""Ids to chunks: nothing lost, nothing after the end, the same however the ids were grouped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import RuntimeFailedError
from rkllama_protocol.messages import Job
from rkllama_worker.engine.answer import Answer, Durations
from rkllama_worker.engine.model_files import ModelFiles, special_tokens
from rkllama_worker.engine.prompt import Prompt
from tokenizers import Tokenizer

MakeJob = Callable[..., Job]
TEXT = "One 🦜, two 漢字.\n\nUser: three"
PROMPT = Prompt(ids=(5, 6, 7), text="")


def chunks(answer: Answer, groups: list[list[int]]) -> list[Chunk]:
    made = [answer.take(group, Durations(10, i)) for i, group in enumerate(groups)]
    return [*filter(None, made), answer.finish("length", Durations(10, 99))]


def content(made: list[Chunk]) -> str:
    return "".join(chunk.content for chunk in made)


def test_every_id_is_carried_also_where_its_text_is_held_back(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    ids = facts.tokenizer.encode(TEXT, add_special_tokens=False).ids

    made = chunks(Answer(make_job(), PROMPT, facts), [[token] for token in ids])

    assert [chunk.ids for chunk in made] == [*((token,) for token in ids), ()]
    assert [chunk.seq for chunk in made] == list(range(len(ids) + 1))
    assert content(made) == TEXT
    assert any(not chunk.content for chunk in made[:-1])


def test_the_first_chunk_tells_of_the_prompt_and_the_last_of_everything(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    made = chunks(Answer(make_job(), PROMPT, facts), [[40], [41]])

    assert [chunk.prompt_tokens for chunk in made] == [3, 0, 0]
    assert [bool(chunk.prompt_hash) for chunk in made] == [True, False, False]
    assert [chunk.finish for chunk in made] == ["", "", "length"]
    assert made[-1].context == (5, 6, 7, 40, 41)
    assert [chunk.decode_ns for chunk in made] == [0, 1, 99]


def test_an_eos_id_ends_the_answer_and_is_no_part_of_it(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    answer = Answer(make_job(), PROMPT, facts)

    made = chunks(answer, [[40, 2, 41], [42]])

    assert answer.ended
    assert [(chunk.ids, chunk.finish) for chunk in made] == [((40,), ""), ((), "stop")]
    assert made[-1].stopped_by == ""


def test_a_stop_string_ends_the_answer_before_it(facts: ModelFiles, make_job: MakeJob) -> None:
    ids = facts.tokenizer.encode(TEXT, add_special_tokens=False).ids

    made = chunks(Answer(make_job(stop=("\n\nUser",)), PROMPT, facts), [ids])

    assert content(made) == "One 🦜, two 漢字."
    assert (made[-1].finish, made[-1].stopped_by) == ("stop", "\n\nUser")


def test_a_stop_string_may_end_in_text_that_was_held_back(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    """The answer is cut off in the middle of a character, which is shown as U+FFFD."""
    half = facts.tokenizer.encode("🦜", add_special_tokens=False).ids[0]

    made = chunks(Answer(make_job(stop=("\ufffd",)), PROMPT, facts), [[half]])

    assert (content(made), made[-1].finish) == ("", "stop")


@pytest.mark.parametrize(
    ("num_predict", "ids", "kept", "finish"),
    [
        (-1, [40] * 31, 31, "length"),
        (-1, [40] * 40, 31, "length"),
        (-1, [9, *[40] * 40], 32, "length"),
        # Its own end comes first.
        (-1, [*[40] * 30, 2], 30, "stop"),
        # One token between them, and it is no loop.
        (-1, [*[40] * 30, 41, *[40] * 30, 2], 61, "stop"),
        # Who bounded it gets what was asked for.
        (100, [*[40] * 60, 2], 60, "stop"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_an_answer_nobody_bounded_ends_where_it_says_one_token_without_end(
    facts: ModelFiles,
    make_job: MakeJob,
    num_predict: int,
    ids: list[int],
    kept: int,
    finish: str,
    size: int,
) -> None:
    answer = Answer(make_job(num_predict=num_predict), PROMPT, facts)

    made = chunks(answer, [ids[at : at + size] for at in range(0, len(ids), size)])

    assert answer.ended
    assert made[-1].finish == finish
    assert made[-1].context == (*PROMPT.ids, *ids[:kept])


def test_repeats_count_on_behind_those_of_an_earlier_attempt(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    answer = Answer(make_job(num_predict=-1), PROMPT, facts)
    answer.replay([40] * 20)

    made = chunks(answer, [[40]] * 20)

    assert len(made) == 12
    assert made[-1].finish == "length"


def test_a_stop_string_among_repeats_is_what_ended_it(facts: ModelFiles, make_job: MakeJob) -> None:
    (token,) = facts.tokenizer.encode("a", add_special_tokens=False).ids
    answer = Answer(make_job(num_predict=-1, stop=("aaa",)), PROMPT, facts)

    made = chunks(answer, [[token] * 40])

    assert content(made) == ""
    assert (made[-1].finish, made[-1].stopped_by) == ("stop", "aaa")


def test_reasoning_is_parted_only_if_that_is_wanted(facts: ModelFiles, make_job: MakeJob) -> None:
    prompt = dataclasses.replace(PROMPT, template="… </think> …")
    ids = facts.tokenizer.encode("<think>hm</think>yes", add_special_tokens=False).ids

    parted = chunks(Answer(make_job(), prompt, facts), [ids])
    unparted = chunks(Answer(make_job(think=False), prompt, facts), [ids])

    assert (content(parted), "".join(chunk.thinking for chunk in parted)) == ("yes", "hm")
    assert content(unparted) == "<think>hm</think>yes"


TOOL = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize("mark", ["<tool_call>", "<|im_start|>"])
def test_calls_come_in_chunks_also_where_their_mark_is_a_special_token(
    facts: ModelFiles, make_job: MakeJob, mark: str
) -> None:
    """Tokenizers disagree on what is special; a parser that saw no mark would find no call."""
    call = f'Hm.\n{mark}{{"name": "look", "arguments": {{"at": "🦜"}}}}'
    prompt = dataclasses.replace(PROMPT, template="<tool_call>")
    if mark != "<tool_call>":
        # The tokenizer's own special token takes the place of the mark.
        renamed = facts.tokenizer.to_str().replace(mark, "<tool_call>")
        tokenizer = Tokenizer.from_str(renamed)
        facts = dataclasses.replace(
            facts, tokenizer=tokenizer, special_tokens=special_tokens(tokenizer)
        )
        call = call.replace(mark, "<tool_call>")
    ids = facts.tokenizer.encode(call, add_special_tokens=False).ids
    answer = Answer(make_job(tools=(TOOL,)), prompt, facts)
    made = chunks(answer, [[token] for token in ids])
    (found,) = (call for chunk in made for call in chunk.tool_calls)

    assert content(made) == "Hm."
    assert found["function"] == {"index": 0, "name": "look", "arguments": {"at": "🦜"}}
    assert answer.agrees_with(call.encode())
    assert answer.agrees_with(call.replace("<tool_call>", "").encode()) is (mark == "<|im_start|>")


def test_without_tools_a_call_is_text(facts: ModelFiles, make_job: MakeJob) -> None:
    text = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    ids = facts.tokenizer.encode(text, add_special_tokens=False).ids
    prompt = dataclasses.replace(PROMPT, template="<tool_call>")
    made = chunks(Answer(make_job(), prompt, facts), [ids])

    assert content(made) == text
    assert not any(chunk.tool_calls for chunk in made)


def test_a_failure_is_a_terminal_chunk_with_its_code(facts: ModelFiles, make_job: MakeJob) -> None:
    answer = Answer(make_job(), PROMPT, facts)
    answer.take([40], Durations())

    chunk = answer.fail(RuntimeFailedError("it broke"), Durations())

    assert (chunk.seq, chunk.error_code, chunk.error_message) == (1, "runtime_failed", "it broke")
    assert chunk.terminal


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_how_the_ids_are_grouped_does_not_matter(
    facts: ModelFiles, make_job: MakeJob, data: st.DataObject
) -> None:
    text = "<think>a 🦜</think>\n b漢 END c"
    ids = facts.tokenizer.encode(text, add_special_tokens=False).ids
    cuts = sorted(data.draw(st.sets(st.integers(0, len(ids)))))
    groups = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    prompt = dataclasses.replace(PROMPT, template="</think>")

    made = chunks(Answer(make_job(stop=("END",)), prompt, facts), groups)

    assert content(made) == "b漢 "
    assert "".join(chunk.thinking for chunk in made) == "a 🦜"


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        (TEXT, True),
        (" " + TEXT, True),
        (TEXT + "<|im_end|>", True),
        (TEXT[:-1], False),
        (TEXT.replace("漢", "汉"), False),
        ("", False),
    ],
)
def test_a_runtimes_own_text_is_compared_with_the_tokenizers(
    facts: ModelFiles, make_job: MakeJob, text: str, agrees: bool
) -> None:
    """Also where a stop string or thinking kept text from the client."""
    ids = facts.tokenizer.encode(TEXT, add_special_tokens=False).ids
    answer = Answer(make_job(stop=(TEXT[-3:],)), PROMPT, facts)

    chunks(answer, [ids])

    assert answer.agrees_with(text.encode()) is agrees


@pytest.mark.parametrize("ending", [b"", "漢".encode()[:1], "漢".encode()[:2]])
def test_a_character_that_never_became_whole_is_not_compared(
    facts: ModelFiles, make_job: MakeJob, ending: bytes
) -> None:
    ids = facts.tokenizer.encode("a🦜", add_special_tokens=False).ids
    answer = Answer(make_job(), PROMPT, facts)

    chunks(answer, [ids[:-1]])

    assert answer.agrees_with(b"a" + ending)
