"""One chunk is under way at a time; nothing that is made meanwhile is lost, late or alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rkllama_worker.engine.runtime.base import Likely, Logprobs
from rkllama_worker.engine.window import Window


class Said:
    """The chunks that a window has made."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.logprobs: list[list[Logprobs]] = []

    def say(self, ids: Sequence[int], logprobs: Sequence[Logprobs]) -> bool:
        self.ids.append(list(ids))
        self.logprobs.append(list(logprobs))
        # An EOS by itself makes no chunk.
        return list(ids) != [0]


def test_a_worker_that_keeps_up_gets_a_chunk_for_every_token() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        for token in (1, 2, 3):
            window.put([token], ())
            assert said.ids[-1] == [token]
            window.wanted()

    assert said.ids == [[1], [2], [3]]


def test_what_is_made_while_the_worker_is_busy_is_one_chunk_as_soon_as_it_is_not() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        for token in (1, 2, 3, 4):
            window.put([token], ())
        assert said.ids == [[1]]
        window.wanted()
        assert said.ids == [[1], [2, 3, 4]]
        window.put([5], ())
        assert said.ids == [[1], [2, 3, 4]]

    assert said.ids == [[1], [2, 3, 4], [5]]


def test_a_worker_that_waits_gets_the_next_token_at_once() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        window.put([1], ())
        window.wanted()
        window.put([2], ())

        assert said.ids == [[1], [2]]


def test_what_made_no_chunk_is_not_waited_for() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        window.put([0], ())
        window.put([1], ())

        assert said.ids == [[0], [1]]


def test_logprobs_stay_with_their_ids() -> None:
    window, said = Window(), Said()
    of = [Logprobs(chosen=Likely(token, -0.1), top=()) for token in range(4)]

    with window.passing(said.say):
        for token in range(1, 4):
            window.put([token], [of[token]])

    assert said.logprobs == [[of[1]], [of[2], of[3]]]


def test_the_next_call_of_the_runtime_waits_for_the_same_worker() -> None:
    """A job that is asked again goes on with the same run: its first chunk may still be under way."""
    window, first, second = Window(), Said(), Said()

    with window.passing(first.say):
        window.put([1], ())
    with window.passing(second.say):
        window.put([2], ())
        assert second.ids == []
        window.wanted()
        assert second.ids == [[2]]


def test_a_runtime_that_fails_leaves_nothing_behind() -> None:
    window, said = Window(), Said()

    def run() -> None:
        with window.passing(said.say):
            window.put([1], ())
            window.put([2], ())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    window.wanted()

    assert said.ids == [[1], [2]]
