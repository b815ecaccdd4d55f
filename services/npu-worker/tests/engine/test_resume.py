"""An answer that another engine goes on with: nothing twice, nothing missing, wherever it was cut."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Job
from rkllama_worker.engine.answer import Answer, Durations
from rkllama_worker.engine.model_files import ModelFiles
from rkllama_worker.engine.prompt import Prompt

MakeJob = Callable[..., Job]
CALL = {"name": "weather", "arguments": {"city": "São Paulo 🌧", "days": [1, 2]}}
HERMES = "<think></think> {% if tools %}<tool_call>\n{}\n</tool_call>{% endif %}"
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "characters": ("One 🦜, two 漢字, e\u0301 and 👩‍👩‍👧.", {}),
    "a stop string": ("One 🦜.\n\nUser", {"stop": ("\n\nUser: 漢",)}),
    "a stop string that came": ("One.\n\nUser: 漢字", {"stop": ("\n\nUser: 漢",)}),
    "thinking": ("<think>\nhm, 🦜?\n</think>\n\nYes <b>.", {"think": True}),
    "a tool call": (
        f"Let me see.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        {"tools": TOOLS},
    ),
    "two tool calls": (f"<tool_call>{json.dumps(CALL)}</tool_call>" * 2, {"tools": TOOLS}),
    "no tool call": ("<tool_cal> is no call, {nor is this}", {"tools": TOOLS}),
}


def shown(chunks: list[Chunk]) -> tuple[str, str, list[dict[str, Any]], list[int], str]:
    """What a client gets of the chunks, the ids, and the end."""
    return (
        "".join(chunk.content for chunk in chunks),
        "".join(chunk.thinking for chunk in chunks),
        [call for chunk in chunks for call in chunk.tool_calls],
        [token for chunk in chunks for token in chunk.ids],
        chunks[-1].finish,
    )


def taken(answer: Answer, ids: list[int], sizes: list[int]) -> list[Chunk]:
    """The chunks of ids that come in groups of these sizes, over and over."""
    made: list[Chunk | None] = []
    at = turn = 0
    while at < len(ids):
        size = sizes[turn % len(sizes)]
        made.append(answer.take(ids[at : at + size], Durations()))
        at, turn = at + size, turn + 1
    return [chunk for chunk in made if chunk is not None]


@pytest.mark.parametrize("case", ANSWERS)
@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_an_answer_cut_at_any_id_is_the_answer_uncut(
    facts: ModelFiles, make_job: MakeJob, case: str, sizes: list[int]
) -> None:
    text, wishes = ANSWERS[case]
    job = make_job(**wishes)
    prompt = Prompt(ids=(5, 6, 7), text="", template=HERMES)
    ids = facts.tokenizer.encode(text, add_special_tokens=False).ids

    def fresh() -> Answer:
        return Answer(job, prompt, facts)

    whole = fresh()
    uncut = shown([*taken(whole, ids, sizes), whole.finish("length", Durations())])
    for cut in range(len(ids) + 1):
        first, second = fresh(), fresh()
        before = taken(first, ids[:cut], sizes)
        second.replay(first.ids)
        after = taken(second, ids[cut:], sizes)
        end = second.finish("length", Durations())
        assert shown([*before, *after, end]) == uncut
        assert (end.seq, end.context) == (len(after), (5, 6, 7, *second.ids))


def test_the_first_chunk_of_a_resumed_answer_tells_of_the_prompt_again(
    facts: ModelFiles, make_job: MakeJob
) -> None:
    answer = Answer(make_job(), dataclasses.replace(Prompt(ids=(5, 6), text="")), facts)
    answer.replay([40])
    chunk = answer.take([41], Durations())

    assert chunk is not None
    assert (chunk.seq, chunk.ids, chunk.prompt_tokens) == (0, (41,), 2)
    assert chunk.prompt_hash
