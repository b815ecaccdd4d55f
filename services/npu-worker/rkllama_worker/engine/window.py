"""What a run makes, on its way to the worker: one chunk at a time is under way.

    runtime's thread    put      takes note, for the model waits until that returns
    telling thread               makes a chunk of all that was put, as soon as the worker waits for one
    reading thread      wanted   the worker has passed the last chunk on

A chunk carries one token while the worker keeps up, and those that were made meanwhile when it does not:
what a chunk costs every process behind this one is then shared by its tokens. They are bounded, for a broker
passes no message on that is larger than it allows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rkllama_worker.engine.runtime.base import Logprobs

Say = Callable[[Sequence[int], Sequence[Logprobs]], bool]
"""Makes a chunk of ids and sends it; False if there was none to send."""

MOST_IDS = 128
"""Gathered in a chunk, and what one emission brings more: with 20 logprobs each they are half a MiB, of one
that a message may have."""

_Made = tuple[Sequence[int], Sequence[Logprobs]]


class Window:
    """Of one run."""

    def __init__(self) -> None:
        self._made: queue.SimpleQueue[_Made | None] = queue.SimpleQueue()
        self._under_way = threading.Lock()
        """Held while a chunk is, from its sending to the worker's word."""
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a chunk could not be made: `passing` raises why."""
        return self._failure is not None

    @contextmanager
    def passing(self, say: Say) -> Iterator[None]:
        """Have `say` make the chunks inside this context, on a thread of its own; leaving it sends the rest."""
        telling = threading.Thread(target=self._tell, args=(say,), daemon=True)
        telling.start()
        try:
            yield
        finally:
            self._made.put(None)
            telling.join()
        if self._failure is not None:
            raise self._failure

    def put(self, ids: Sequence[int], logprobs: Sequence[Logprobs]) -> None:
        """The runtime made these."""
        self._made.put((ids, logprobs))

    def wanted(self) -> None:
        """The worker waits for a chunk."""
        if self._under_way.locked():
            self._under_way.release()

    def _tell(self, say: Say) -> None:
        try:
            while (made := self._made.get()) is not None:
                self._under_way.acquire()
                ids, logprobs = [*made[0]], [*made[1]]
                while (
                    len(ids) < MOST_IDS
                    and not self._made.empty()
                    and (made := self._made.get()) is not None
                ):
                    ids += made[0]
                    logprobs += made[1]
                if not say(ids, logprobs):
                    self._under_way.release()
                if made is None:
                    return
        except BaseException as error:  # noqa: BLE001 - the run thread raises it
            self._failure = error
