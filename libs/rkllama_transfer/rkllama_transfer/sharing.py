"""Work that several wait for: the first begins it, the last to go stops it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from rkllama_protocol.errors import RkllamaError

log = logging.getLogger(__name__)

R = TypeVar("R")
"""What the work gives."""
N = TypeVar("N")
"""What it says meanwhile."""


class _Work(Generic[R, N]):
    """One piece of work, and who listens to it."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[N], None]] = []
        self.last: N | None = None
        self.abandoned = False

    def say(self, news: N) -> None:
        self.last = news
        for listener in self.listeners:
            listener(news)


class Shared(Generic[R, N]):
    """Work by its key, each key once at a time; the tasks live in `tasks`."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: dict[str, tuple[_Work[R, N], asyncio.Task[R | RkllamaError]]] = {}

    async def join(
        self,
        key: str,
        begin: Callable[[Callable[[N], None]], Awaitable[R]],
        listen: Callable[[N], None],
    ) -> R:
        """The result of the work that runs under `key`, or else of `begin(say)`.

        `listen` gets what is said from now on, and first what was said last. Cancelled, the work
        goes on for the others; the last one to go waits until it has stopped.

        Raises:
            RkllamaError: What the work raised.
        """
        while (running := self._running.get(key)) is not None and running[0].abandoned:
            # It still has the files open that the next one will write.
            await asyncio.wait({running[1]})
            self._forget(key, running[0])
        if running is None:
            work: _Work[R, N] = _Work()
            task = self._tasks.create_task(self._run(key, work, begin))
            self._running[key] = work, task
        else:
            work, task = running
            if work.last is not None:
                listen(work.last)
        work.listeners.append(listen)
        try:
            result = await asyncio.shield(task)
        finally:
            work.listeners.remove(listen)
            if not work.listeners and not task.done():
                work.abandoned = True
                task.cancel()
                await asyncio.wait({task})
        if isinstance(result, RkllamaError):
            raise result
        return result

    async def _run(
        self, key: str, work: _Work[R, N], begin: Callable[[Callable[[N], None]], Awaitable[R]]
    ) -> R | RkllamaError:
        try:
            return await begin(work.say)
        except RkllamaError as error:
            return error
        except Exception as error:
            log.exception("work failed", extra={"key": key})
            return RkllamaError(f"internal error: {type(error).__name__}")
        finally:
            self._forget(key, work)

    def _forget(self, key: str, work: _Work[R, N]) -> None:
        running = self._running.get(key)
        if running is not None and running[0] is work:
            del self._running[key]
