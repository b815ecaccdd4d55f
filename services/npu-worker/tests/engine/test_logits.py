"""What the logits of one place say, and generation that is driven by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.runtime.base import GenerateRequest, Logprobs
from rkllama_worker.engine.runtime.logits import Floats, Sampler, logprobs
from rkllama_worker.engine.runtime.stepping import step_by_step

ROW = np.log(np.array([0.1, 0.5, 0.15, 0.25], dtype=np.float32))
PLAIN = Sampling(temperature=1, top_k=0, top_p=1)


def drawn(sampling: Sampling, *, prompt: Sequence[int] = (), count: int = 400) -> Counter[int]:
    sampler = Sampler(sampling, prompt, context_length=64)
    fixed = sampling.repeat_last_n == 0
    makers = (
        sampler if fixed else Sampler(sampling, prompt, context_length=64) for _ in range(count)
    )
    return Counter(maker.choose(ROW) for maker in makers)


def test_logprobs_are_those_of_a_softmax_best_first() -> None:
    told = logprobs(ROW + 7, 2, 3)

    assert told.chosen.token == 2
    assert np.exp(told.chosen.logprob) == pytest.approx(0.15, rel=1e-5)
    assert [likely.token for likely in told.top] == [1, 3, 2]
    assert np.exp([likely.logprob for likely in told.top]) == pytest.approx(
        [0.5, 0.25, 0.15], rel=1e-5
    )


@pytest.mark.parametrize(("top", "count"), [(0, 0), (1, 1), (4, 4), (20, 4)])
def test_so_many_are_told_as_are_asked_for_and_there(top: int, count: int) -> None:
    assert len(logprobs(ROW, 0, top).top) == count


def test_of_equals_the_lower_id_comes_first() -> None:
    told = logprobs(np.zeros(50, dtype=np.float32), 9, 50)

    assert [likely.token for likely in told.top] == list(range(50))


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40))
def test_chances_sum_to_one_however_large_the_logits(values: list[float]) -> None:
    told = logprobs(np.array(values, dtype=np.float32), 0, len(values))

    assert np.exp([likely.logprob for likely in told.top]).sum() == pytest.approx(1, abs=1e-3)
    assert list(told.top) == sorted(told.top, key=lambda likely: -likely.logprob)


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        ({"temperature": 0}, {1}),
        ({"temperature": 0.0001}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 2}, {1, 3}),
        ({"top_p": 0.4}, {1}),
        ({"top_p": 0.7}, {1, 3}),
        ({"min_p": 0.4}, {1, 3}),
        ({"min_p": 1}, {1}),
        ({"typical_p": 0.2}, {3}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_each_rule_leaves_what_it_should(sampling: dict[str, float], possible: set[int]) -> None:
    made = PLAIN.model_copy(update={"repeat_last_n": 0, **sampling})

    assert set(drawn(made)) == possible


def test_draws_follow_the_chances() -> None:
    counts = drawn(PLAIN.model_copy(update={"repeat_last_n": 0}), count=4000)

    shares = [counts[token] / 4000 for token in range(4)]
    assert shares == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=0.04)


def test_a_seed_is_an_answer() -> None:
    def run(seed: int) -> list[int]:
        sampling = PLAIN.model_copy(update={"seed": seed, "repeat_last_n": 0})
        sampler = Sampler(sampling, (), context_length=64)
        return [sampler.choose(ROW) for _ in range(20)]

    assert run(7) == run(7) != run(8)
    assert run(-1) == run(-1)


@pytest.mark.parametrize("name", ["repeat_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_reach_back_to_the_prompt_and_only_so_far(name: str) -> None:
    greedy = Sampling.model_validate({"temperature": 0, name: 9.0, "repeat_last_n": 2})

    assert Sampler(greedy, (0, 1), context_length=64).choose(ROW) == 3
    assert Sampler(greedy, (1, 0, 0), context_length=64).choose(ROW) == 1
    everything = greedy.model_copy(update={"repeat_last_n": -1})
    assert Sampler(everything, (1, *[0] * 60), context_length=64).choose(ROW) == 3
    assert Sampler(everything, (1, *[0] * 64), context_length=64).choose(ROW) == 1


def test_a_frequency_counts_every_time() -> None:
    sampling = Sampling(temperature=0, frequency_penalty=0.4, repeat_last_n=8)

    assert Sampler(sampling, (1,), context_length=64).choose(ROW) == 1
    assert Sampler(sampling, (1, 1), context_length=64).choose(ROW) == 3


def test_only_what_is_allowed_is_chosen() -> None:
    for sampling in (PLAIN, Sampling(temperature=0), Sampling(temperature=2, typical_p=0.5)):
        sampler = Sampler(sampling, (0, 2), context_length=64)
        # An id beyond the row: vocabularies are padded, or tokens added.
        chosen = {sampler.choose(ROW, np.array([0, 2, 9])) for _ in range(50)}

        assert chosen <= {0, 2}


# ------------------------------------------------------------------ step by step


class Word:
    """Allows one list of ids; knows `ahead` of them to be forced."""

    def __init__(self, ids: Sequence[int], *, ahead: int = 0) -> None:
        self._left = list(ids)
        self._ahead = ahead

    @property
    def complete(self) -> bool:
        return not self._left

    def allowed(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        return np.array(self._left[:1], dtype=np.intp)

    def forced(self) -> list[int]:
        return self._left[: self._ahead]

    def accept(self, token: int) -> None:
        assert self._left.pop(0) == token


def steps(
    request: GenerateRequest, *, stop_after: int = 99, rows: int = 99
) -> tuple[list[int], list[Logprobs], list[list[int]], str]:
    """Ids, logprobs, what logits were asked for, and the finish; the logits fail after `rows`."""
    made: list[int] = []
    told: list[Logprobs] = []
    asked: list[list[int]] = []

    def logits_of(ids: Sequence[int]) -> Floats | None:
        asked.append(list(ids))
        return ROW if len(asked) <= rows else None

    def emit(ids: Sequence[int], logprobs: Sequence[Logprobs] = (), /) -> bool:
        made.extend(ids)
        told.extend(logprobs)
        return len(made) < stop_after

    sampler = Sampler(request.sampling, (5, 6), context_length=64)
    finish = step_by_step((5, 6), request, emit, logits_of=logits_of, sampler=sampler)
    return made, told, asked, finish


GREEDY = Sampling(temperature=0, repeat_last_n=0)


def test_the_whole_list_is_sent_each_time() -> None:
    made, _, asked, finish = steps(GenerateRequest(sampling=GREEDY, max_tokens=3, top_logprobs=1))

    assert (made, finish) == ([1, 1, 1], "length")
    assert asked == [[5, 6], [5, 6, 1], [5, 6, 1, 1]]


def test_a_constrained_answer_ends_when_it_is_complete() -> None:
    made, _, _, finish = steps(
        GenerateRequest(sampling=GREEDY, max_tokens=9, constraint=Word((0, 3, 2)))
    )

    assert (made, finish) == ([0, 3, 2], "stop")


def test_what_is_forced_costs_no_step() -> None:
    made, _, asked, finish = steps(
        GenerateRequest(sampling=GREEDY, max_tokens=9, constraint=Word((0, 3, 2, 1, 0), ahead=2))
    )

    assert (made, finish) == ([0, 3, 2, 1, 0], "stop")
    assert asked == [[5, 6], [5, 6, 0, 3, 2]]


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_what_is_forced_counts(most: int) -> None:
    made, _, _, finish = steps(
        GenerateRequest(sampling=GREEDY, max_tokens=most, constraint=Word((0, 3, 2, 1, 0), ahead=2))
    )

    assert (made, finish) == ([0, 3, 2, 1, 0][:most], "length")


def test_logprobs_are_told_of_each_token_also_where_it_is_forced() -> None:
    made, told, asked, _ = steps(
        GenerateRequest(
            sampling=GREEDY, max_tokens=9, constraint=Word((0, 3, 2), ahead=2), top_logprobs=2
        )
    )

    assert [one.chosen.token for one in told] == made == [0, 3, 2]
    assert [[likely.token for likely in one.top] for one in told] == [[1, 3]] * 3
    assert len(asked) == 3


def test_an_abort_ends_it_between_two_steps() -> None:
    request = GenerateRequest(sampling=GREEDY, max_tokens=9, top_logprobs=0)

    assert steps(request, stop_after=2)[0::3] == ([1, 1], "aborted")
    assert steps(request, rows=2)[0::3] == ([1, 1], "aborted")
