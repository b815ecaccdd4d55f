"""How a process starts, is told to stop, and ends with its parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import NoReturn, TypeVar

import uvloop
from rkllama_protocol.access import BrokerRefusedError

T = TypeVar("T")

CANCEL_AGAIN_S = 0.1

SETUP_ERROR = 2
"""Exit code for what a person has to mend: a setting, a port, a folder, a library."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class SetupError(Exception):
    """The process cannot start; the text is one sentence for the person who started it."""


def fail(error: SetupError | str) -> NoReturn:
    """Say the sentence and exit with code 2."""
    sys.stderr.write(f"rkllama: {error}\n")
    raise SystemExit(SETUP_ERROR)


def die_with_parent(parent_pid: int, *, signum: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process when its parent ends, whatever ends it.

    `parent_pid` closes the race with a parent that is gone already. The request survives `execve`
    (prctl(2), PR_SET_PDEATHSIG). Elsewhere than on Linux it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main(stop)` to its end; SIGTERM and SIGINT set `stop`.

    A `SetupError`, or a broker that refuses the process, ends it with its sentence and code 2.
    """

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        await main(stop)

    try:
        uvloop.run(with_signals())
    except (SetupError, BrokerRefusedError) as error:
        fail(str(error))
    except BaseExceptionGroup as group:
        sentences, rest = group.split((SetupError, BrokerRefusedError))
        if sentences is None or rest is not None:
            raise
        fail(str(_first(sentences)))


async def unless(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """The result of `work`, or None if `stop` is set first; then `work` is cancelled."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        stopped.cancel()
        # A library that waits with Python 3.11's `wait_for` can lose a cancellation: it is said again.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
