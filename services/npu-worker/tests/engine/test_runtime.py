"""What every runtime has to do; the engine relies on nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.runtime._llama_h import XLLAMACPP_VERSION
from rkllama_worker.engine.runtime.base import GenerateRequest, RunStats, Runtime
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp
from tokenizers import Tokenizer

GREEDY = Sampling(temperature=0)
STORY = "Once upon a time"


@pytest.fixture(scope="module")
def runtime(weights: Path) -> Iterator[Runtime]:
    runtime = LlamaCpp(weights, num_ctx=1024)
    yield runtime
    runtime.close()


def run(
    runtime: Runtime, prompt: Sequence[int], *, sampling: Sampling = GREEDY, max_tokens: int = 8
) -> tuple[list[int], RunStats]:
    """The ids of a run that nothing disturbs."""
    ids: list[int] = []

    def emit(more: Sequence[int], _logprobs: object = (), /) -> bool:
        ids.extend(more)
        return True

    request = GenerateRequest(sampling=sampling, max_tokens=max_tokens)
    return ids, runtime.generate(prompt, request, emit)


@pytest.fixture(scope="module")
def story(tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode(STORY, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def long_prompt(tokenizer: Tokenizer) -> list[int]:
    """Some seconds of prefill."""
    return list(tokenizer.encode(STORY * 220, add_special_tokens=False).ids)[:900]


def test_the_bound_on_new_tokens_is_exact(runtime: Runtime, story: list[int]) -> None:
    ids, stats = run(runtime, story, max_tokens=7)

    assert (len(ids), stats.finish) == (7, "length")


def test_every_id_is_emitted_also_halves_of_characters(
    runtime: Runtime, tokenizer: Tokenizer
) -> None:
    """llama.cpp's server leaves out ids that end within a character."""
    prompt = tokenizer.encode("🦜🦜🦜🦜🦜🦜🦜🦜🦜🦜🦜🦜", add_special_tokens=False).ids

    ids, _ = run(runtime, prompt, max_tokens=15)

    assert len(ids) == 15
    assert any(tokenizer.decode([token]) == "\ufffd" for token in ids)


def test_the_whole_context_can_be_filled(weights: Path, long_prompt: list[int]) -> None:
    runtime = LlamaCpp(weights, num_ctx=256)
    try:
        ids, stats = run(runtime, long_prompt[:236], max_tokens=20)
    finally:
        runtime.close()

    assert (len(ids), stats.finish) == (20, "length")


def test_the_prefix_of_the_turn_before_is_not_computed_again(
    runtime: Runtime, story: list[int]
) -> None:
    first, _ = run(runtime, story)
    turn = [*story, *first[:-1]]

    _, stats = run(runtime, [*turn, 30, 31, 32])

    assert stats.reused_tokens == len(turn)


@pytest.mark.parametrize(
    "sampling",
    # llama.cpp draws a seed of its own for -1.
    [GREEDY, Sampling(temperature=1.5, seed=7), Sampling(temperature=1.5, seed=-1)],
)
def test_equal_prompts_and_seeds_get_equal_answers(
    runtime: Runtime, story: list[int], sampling: Sampling
) -> None:
    """Also when the second run finds its prompt computed."""
    answers = [run(runtime, story, sampling=sampling)[0] for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]


def test_another_seed_gives_another_answer(runtime: Runtime, story: list[int]) -> None:
    answers = {
        tuple(run(runtime, story, sampling=Sampling(temperature=2, top_k=0, seed=seed))[0])
        for seed in (0, 1, 2**40 + 2)
    }

    assert len(answers) == 3


def test_sampling_is_heeded(runtime: Runtime, story: list[int]) -> None:
    """One candidate, whichever rule leaves but one, is what greedy takes."""
    greedy, _ = run(runtime, story)
    narrow = [
        Sampling(temperature=5, top_k=1),
        Sampling(temperature=5, top_k=0, top_p=0.0001),
        Sampling(temperature=5, top_k=0, top_p=1, min_p=1),
        Sampling(temperature=0.0001, top_k=0, top_p=1),
    ]

    assert [run(runtime, story, sampling=sampling)[0] for sampling in narrow] == [greedy] * 4


def test_penalties_change_an_answer_that_repeats(runtime: Runtime, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("ha ha ha ha ha ha ha ha", add_special_tokens=False).ids
    repeating, _ = run(runtime, prompt)

    for penalty in ("repeat_penalty", "presence_penalty", "frequency_penalty"):
        sampling = Sampling.model_validate({"temperature": 0, penalty: 20.0})
        assert run(runtime, prompt, sampling=sampling)[0] != repeating
        unseen = sampling.model_copy(update={"repeat_last_n": 0})
        assert run(runtime, prompt, sampling=unseen)[0] == repeating


def test_a_run_ends_when_no_more_ids_are_wanted(runtime: Runtime, story: list[int]) -> None:
    ids: list[int] = []

    def emit(more: Sequence[int], _logprobs: object = (), /) -> bool:
        ids.extend(more)
        return len(ids) < 3

    stats = runtime.generate(story, GenerateRequest(sampling=GREEDY, max_tokens=99), emit)

    assert (len(ids), stats.finish) == (3, "aborted")
    assert run(runtime, story)[0][:3] == ids


def test_an_abort_while_idle_does_not_hit_the_next_run(runtime: Runtime, story: list[int]) -> None:
    runtime.abort()

    assert run(runtime, story, max_tokens=5)[1].finish == "length"


def test_an_abort_in_the_prefill_ends_the_run_and_spoils_nothing(
    runtime: Runtime, story: list[int], long_prompt: list[int]
) -> None:
    """What was computed before the aborted batch is used again, the batch itself is not."""
    prompt = long_prompt[:140]
    run(runtime, story, max_tokens=1)
    whole, _ = run(runtime, prompt)
    run(runtime, [30, 31], max_tokens=1)
    run(runtime, story, max_tokens=1)
    over = threading.Event()

    def abort() -> None:
        while not over.wait(0.01):
            runtime.abort()

    aborting = threading.Thread(target=abort)
    aborting.start()
    ids, stats = run(runtime, prompt)
    over.set()
    aborting.join()

    assert (ids, stats.finish) == ([], "aborted")
    again, stats = run(runtime, prompt)
    assert (again, stats.reused_tokens) == (whole, len(story))


def test_ids_outside_the_vocabulary_fail_the_run_alone(runtime: Runtime, story: list[int]) -> None:
    with pytest.raises(RuntimeFailedError, match="vocabulary"):
        run(runtime, [*story, 10**6])

    assert len(run(runtime, story, max_tokens=2)[0]) == 2


def test_a_context_is_at_most_what_the_model_was_trained_for(weights: Path) -> None:
    runtime = LlamaCpp(weights, num_ctx=10**6)
    try:
        assert runtime.context_length == 8192
    finally:
        runtime.close()


def test_the_declarations_are_of_the_wheel_that_is_pinned() -> None:
    """A struct of another build is read as nonsense: pin and header move together."""
    pins = [line for line in metadata.requires("rkllama") or () if line.startswith("xllamacpp")]

    assert [pin.split(";")[0].strip() for pin in pins] == [f"xllamacpp=={XLLAMACPP_VERSION}"]


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"no file gone\.gguf"):
        LlamaCpp(tmp_path / "gone.gguf", num_ctx=None)
