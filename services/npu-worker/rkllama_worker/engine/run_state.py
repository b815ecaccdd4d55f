"""What is known of a run while it waits, goes on and ends; looked at by several threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import perf_counter_ns

from rkllama_worker.engine.answer import Durations
from rkllama_worker.engine.window import Window
from rkllama_worker.engine.wire import Saving


@dataclass(eq=False, slots=True)
class Run:
    """A job that waits or runs."""

    number: int
    job: bytes
    saving: Saving = field(default_factory=Saving)
    aborted: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    window: Window = field(default_factory=Window)
    begun_ns: int = 0
    first_ns: int = 0

    def durations(self) -> Durations:
        """Of the call of the runtime that is under way."""
        now = perf_counter_ns()
        first = self.first_ns or now
        return Durations(prefill_ns=first - self.begun_ns, decode_ns=now - first)
