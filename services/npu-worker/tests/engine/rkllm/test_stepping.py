"""The experiment: the vendor's library driven token by token, through its logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rkllama_protocol.messages import Job, Sampling
from rkllm_bindings import FAMILIES

if TYPE_CHECKING:
    from conftest import Answered, Emulate, Emulated

MakeJob = Callable[..., Job]
SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}, "n": {"type": "integer", "maximum": 99, "minimum": 10}},
    "required": ["size", "n"],
}  # fmt: skip
GREEDY = Sampling(temperature=0)
WIDTH = 258
"""Tokens of the emulated vocabulary: bytes, and two special ones."""


WITH_LOGITS = [name for name, family in FAMILIES.items() if family.gives_logits]


@pytest.fixture(scope="module", params=WITH_LOGITS)
def shared(
    request: pytest.FixtureRequest,
    libraries: dict[str, Path],
    emulate_shared: Callable[..., Iterator[Emulated]],
) -> Iterator[Emulated]:
    yield from emulate_shared(
        libraries[request.param], constrained=True, prefill_tokens_per_s=20_000
    )


@pytest.fixture
def model(shared: Emulated) -> Emulated:
    """One with the experiment on; its trace begins with the test."""
    shared.forget()
    return shared


@pytest.fixture(scope="module", params=WITH_LOGITS)
def eager(
    request: pytest.FixtureRequest,
    libraries: dict[str, Path],
    emulate_shared: Callable[..., Iterator[Emulated]],
) -> Iterator[Emulated]:
    """One that goes on to generate after it gave logits: what the vendor's does is not known."""
    yield from emulate_shared(libraries[request.param], constrained=True, logits_continue=True)


def valid(answer: Answered) -> bool:
    said = json.loads(answer.content)
    return said["size"] in {"small", "large"} and 10 <= said["n"] <= 99


def test_a_schema_is_filled_by_a_model_that_says_anything(
    model: Emulated, eager: Emulated, make_job: MakeJob
) -> None:
    for number in range(3):
        job = make_job(f"Question {number}", format=SCHEMA, sampling=GREEDY)
        answer, other = model.ask(job), eager.ask(job)

        assert valid(answer)
        assert bytes(answer.ids).decode() == answer.content == other.content
        assert answer.last.finish == "stop"


def test_text_is_shown_as_it_comes_and_nothing_is_asked_in_words(
    model: Emulated, make_job: MakeJob
) -> None:
    answer = model.ask(make_job("Which?", format=SCHEMA, sampling=GREEDY))

    assert len(answer.chunks) > 2
    assert all(chunk.content for chunk in answer.chunks[:-1])
    prompt = model.script.text(model.trace("run")[0]["ids"]).decode()
    assert prompt == "user\nWhich?\nassistant\n"


def test_each_step_is_one_run_of_the_whole_list_for_its_logits(
    model: Emulated, make_job: MakeJob
) -> None:
    answer = model.ask(make_job("Which?", sampling=GREEDY, num_predict=4, top_logprobs=0))

    runs, ends = model.trace("run"), model.trace("run_end")
    prompt = runs[0]["ids"]
    assert [run["ids"] for run in runs] == [prompt + answer.ids[:n] for n in range(4)]
    assert {run["mode"] for run in runs} == {2}
    assert {run["keep_history"] for run in runs} == {0}
    assert {run.get("max_new_tokens", 1) for run in runs} == {1}
    # The prefix is not computed again.
    assert [end["prefilled"] for end in ends[1:]] == [1, 1, 1]
    assert not any(end["aborted"] for end in ends)


def test_the_likeliest_token_is_taken_and_told(model: Emulated, raw: MakeJob) -> None:
    answer = model.ask(raw("Who?", sampling=GREEDY, num_predict=6, top_logprobs=3))

    assert answer.ids == model.twin("Who?", 6)
    entries = [entry for chunk in answer.chunks for entry in chunk.logprobs]
    ids = list(b"Who?")
    for token, entry in zip(answer.ids, entries, strict=True):
        row = np.array(model.script.logits_row(ids, WIDTH))
        expected = np.sort(row - np.log(np.exp(row).sum()))[::-1]
        told = [one["logprob"] for one in entry["top_logprobs"]]
        assert told == pytest.approx(expected[:3], abs=1e-4)
        assert entry["logprob"] == pytest.approx(expected[0], abs=1e-4)
        assert entry["bytes"] == [token]
        ids.append(token)


def test_every_sampling_option_is_honoured(model: Emulated, raw: MakeJob) -> None:
    """By the library none of these is; a seed even makes answers repeat."""
    hot = Sampling(temperature=9, top_k=0, top_p=1, seed=5)
    job = raw("Dice", sampling=hot, num_predict=12, top_logprobs=0, asked_options=("seed", "min_p"))

    first, second = model.ask(job), model.ask(job)
    other = model.ask(job.model_copy(update={"sampling": hot.model_copy(update={"seed": 6})}))
    narrow = model.ask(job.model_copy(update={"sampling": hot.model_copy(update={"min_p": 1.0})}))

    assert first.ids == second.ids != other.ids
    assert narrow.ids == model.twin("Dice", 12) != first.ids
    assert first.chunks[0].ignored_options == ()


def test_a_plain_run_is_the_librarys_own(model: Emulated, raw: MakeJob) -> None:
    answer = model.ask(raw("Plain", num_predict=6))

    assert answer.ids == model.twin("Plain", 6)
    assert [run["mode"] for run in model.trace("run")] == [0]


def test_a_bound_cuts_it_off(model: Emulated, make_job: MakeJob) -> None:
    answer = model.ask(make_job("Which?", format=SCHEMA, sampling=GREEDY, num_predict=5))

    assert (len(answer.ids), answer.last.error_code) == (5, "invalid_job")
    assert answer.content == '{"size"'[:5]


def test_an_abort_ends_it_between_two_steps(model: Emulated, make_job: MakeJob) -> None:
    run = model.begin(make_job("Story", sampling=GREEDY, top_logprobs=0))
    for _ in range(5):
        model.engine.chunk()
    model.engine.abort(run)

    assert model.rest(run).ended.aborted
    assert valid(model.ask(make_job("Which?", format=SCHEMA, sampling=GREEDY)))


def test_a_release_without_logits_is_asked_in_words(
    emulate: Emulate, libraries: dict[str, Path], make_job: MakeJob
) -> None:
    model = emulate(libraries["abi-1.1"], constrained=True, answer_tokens=5)
    model.load()

    answer = model.ask(make_job("Which?", format=SCHEMA))
    logprobs = model.ask(make_job("Which?", top_logprobs=0))

    assert "did not answer as asked in 3 attempts" in answer.last.error_message
    assert logprobs.last.error_code == "unsupported"
