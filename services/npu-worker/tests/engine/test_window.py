"""One chunk is under way at a time; nothing that is made meanwhile is lost, or comes alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from rkllama_worker.engine.runtime.base import Likely, Logprobs
from rkllama_worker.engine.window import MOST_IDS, Window

HANG_S = 30.0


class Said:
    """The chunks that a window has made."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.logprobs: list[list[Logprobs]] = []
        self._news = threading.Condition()

    def say(self, ids: Sequence[int], logprobs: Sequence[Logprobs]) -> bool:
        with self._news:
            self.ids.append(list(ids))
            self.logprobs.append(list(logprobs))
            self._news.notify_all()
        # An EOS by itself makes no chunk.
        return list(ids) != [0]

    def until(self, count: int) -> None:
        """Wait for so many chunks."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.ids) >= count, HANG_S)


def test_a_worker_that_keeps_up_gets_a_chunk_for_every_token() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        for token in (1, 2, 3):
            window.put([token], ())
            said.until(token)
            window.wanted()

    assert said.ids == [[1], [2], [3]]


def test_what_is_made_while_the_worker_is_busy_is_one_chunk() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        window.put([1], ())
        said.until(1)
        for token in (2, 3, 4):
            window.put([token], ())
        window.wanted()
        said.until(2)
        window.put([5], ())
        window.wanted()

    assert said.ids == [[1], [2, 3, 4], [5]]


def test_what_a_worker_that_stands_still_gets_fits_into_messages() -> None:
    """The broker was stopped for a while: a chunk that it refuses would be lost with all its tokens."""
    window, said = Window(), Said()
    made = 3 * MOST_IDS + 1

    with window.passing(said.say):
        window.put([1], ())
        said.until(1)
        for token in range(made):
            window.put([token + 2], ())
        for chunk in range(2, 6):
            window.wanted()
            said.until(chunk)

    assert [token for ids in said.ids for token in ids] == list(range(1, made + 2))
    assert max(map(len, said.ids)) == MOST_IDS


def test_what_made_no_chunk_is_not_waited_for() -> None:
    window, said = Window(), Said()

    with window.passing(said.say):
        window.put([0], ())
        said.until(1)
        window.put([1], ())
        said.until(2)

    assert said.ids == [[0], [1]]


def test_logprobs_stay_with_their_ids() -> None:
    window, said = Window(), Said()
    of = [Logprobs(chosen=Likely(token, -0.1), top=()) for token in range(4)]

    with window.passing(said.say):
        window.put([1], [of[1]])
        said.until(1)
        window.put([2], [of[2]])
        window.put([3], [of[3]])
        window.wanted()

    assert said.logprobs == [[of[1]], [of[2], of[3]]]


def test_a_word_that_nothing_waits_for_is_harmless() -> None:
    """Chunks of embeddings do not pass through the window, and are answered all the same."""
    window, said = Window(), Said()
    window.wanted()
    window.wanted()

    with window.passing(said.say):
        window.put([1], ())
        said.until(1)
        window.put([2], ())
        window.put([3], ())
        window.wanted()

    assert said.ids == [[1], [2, 3]]


def test_the_next_call_of_the_runtime_waits_for_the_same_worker() -> None:
    """A job that is asked again goes on with the same run: its first chunk may still be under way."""
    window, first, second = Window(), Said(), Said()

    with window.passing(first.say):
        window.put([1], ())
    with window.passing(second.say):
        window.put([2], ())
        window.put([3], ())
        window.wanted()

    assert (first.ids, second.ids) == ([[1]], [[2, 3]])


def test_a_runtime_that_fails_leaves_nothing_behind() -> None:
    window, said = Window(), Said()

    def run() -> None:
        with window.passing(said.say):
            window.put([1], ())
            said.until(1)
            window.put([2], ())
            window.wanted()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert said.ids == [[1], [2]]


def test_a_chunk_that_cannot_be_made_ends_the_run() -> None:
    window = Window()

    def say(_: Sequence[int], __: Sequence[Logprobs]) -> bool:
        raise ZeroDivisionError

    def run() -> None:
        with window.passing(say):
            window.put([1], ())

    with pytest.raises(ZeroDivisionError):
        run()
    assert window.failed
