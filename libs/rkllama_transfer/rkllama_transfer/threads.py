"""File work in threads, which cannot be cancelled: whoever starts it waits for its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class InterruptedWorkError(Exception):
    """The work was told to stop; raised in the thread, never seen outside of it."""


class Interrupt:
    """How a thread learns that nobody wants its work any more."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Ask the thread to stop."""
        self._set.set()

    def check(self) -> None:
        """Called in the thread, every now and then.

        Raises:
            InterruptedWorkError: It shall stop.
        """
        if self._set.is_set():
            raise InterruptedWorkError


async def in_thread(work: Callable[[], T], *, interrupt: Interrupt | None = None) -> T:
    """The result of `work()`, run in a thread.

    When the caller is cancelled, `interrupt` is set and the thread's end is awaited all the same:
    what it writes is then whole, or cleaned up.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if interrupt is not None:
            interrupt.set()
        await asyncio.wait({running})
        if not running.cancelled():
            # Looked at, so that asyncio does not complain: the cancellation is what counts.
            running.exception()
        raise
