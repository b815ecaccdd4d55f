"""What a run makes, on its way to the worker: one chunk at a time is under way.

    runtime's thread    put      a chunk at once, if the worker waits for one
    reading thread      wanted   what was put meanwhile, as one chunk; if nothing was, the next `put` is one
    run thread          passing  the rest, when the runtime has been joined

A chunk carries one token while the worker keeps up, and all that were made meanwhile when it does not:
what a chunk costs every process behind this one is then shared by its tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rkllama_worker.engine.runtime.base import Logprobs

Say = Callable[[Sequence[int], Sequence[Logprobs]], bool]
"""Makes a chunk of ids and sends it; False if there was none to send. Called by one thread at a time."""


class Window:
    """Of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waited_for = True
        """Whether the worker has passed on every chunk it got."""
        self._ids: list[int] = []
        self._logprobs: list[Logprobs] = []
        self._say: Say | None = None

    @contextmanager
    def passing(self, say: Say) -> Iterator[None]:
        """Have `say` make the chunks inside this context; leaving it sends what is left."""
        with self._lock:
            self._say = say
        try:
            yield
        finally:
            with self._lock:
                self._pass_on()
                self._say = None

    def put(self, ids: Sequence[int], logprobs: Sequence[Logprobs]) -> None:
        """The runtime made these."""
        with self._lock:
            self._ids += ids
            self._logprobs += logprobs
            if self._waited_for:
                self._pass_on()

    def wanted(self) -> None:
        """The worker waits for a chunk."""
        with self._lock:
            self._waited_for = True
            self._pass_on()

    def _pass_on(self) -> None:
        if not self._ids or self._say is None:
            return
        ids, self._ids = self._ids, []
        logprobs, self._logprobs = self._logprobs, []
        if self._say(ids, logprobs):
            self._waited_for = False
