"""The processes of one `rkllama serve`: started, started again when they die, and surely ended."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rkllama_service.process import SETUP_ERROR
from rkllama_service.tied import command

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """How to start one process, and how it likes to be ended."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    stop_s: float
    """How long it may take after SIGTERM before it is killed."""


class Children:
    """Keeps a set of processes alive inside a task group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._children: dict[str, Child] = {}
        self._stopping: set[str] = set()
        self.settled = False
        """Everything was ready once: from now on a child that dies is started again."""
        self.refused = asyncio.Event()
        """A child could not start: it has said why."""
        self.exit_code = 0
        """Of the child that could not start."""

    def start(self, child: Child) -> None:
        """Start a process and keep it running until `stop`."""
        self._children[child.name] = child
        self._keepers[child.name] = self._tasks.create_task(self._keep(child))

    async def _keep(self, child: Child) -> None:
        backoff_s = FIRST_BACKOFF_S
        while child.name not in self._stopping:
            process = await asyncio.create_subprocess_exec(
                *command(list(child.argv), signum=signal.SIGKILL),
                env=dict(child.env),
                stdin=asyncio.subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for `serve`, which then ends its children in order.
                start_new_session=True,
            )
            self._processes[child.name] = process
            if child.name in self._stopping:
                self._end(process, signal.SIGTERM)
            code = await process.wait()
            if child.name in self._stopping:
                return
            if code != SETUP_ERROR:
                log.error("process died", extra={"child": child.name, "exit_code": code})
            if code == SETUP_ERROR or not self.settled:
                self.exit_code = code if code > 0 else 1
                self.refused.set()
                return
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    async def stop(self, *names: str) -> None:
        """End these processes together: asked first, killed when they take too long."""
        names = tuple(name for name in names if name in self._keepers)
        self._stopping |= set(names)
        await asyncio.gather(*(self._stop(name) for name in names))

    async def _stop(self, name: str) -> None:
        keeper = self._keepers[name]
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            # Between two lives: nothing runs, and nothing shall.
            keeper.cancel()
            return
        self._end(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self._children[name].stop_s):
                await process.wait()
        except TimeoutError:
            log.warning("process killed", extra={"child": name})
            self._end(process, signal.SIGKILL)
        await keeper

    def _end(self, process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
        if process.returncode is None:
            process.send_signal(signum)
