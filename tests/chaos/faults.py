"""What befalls the stack: processes die, or stand still for a while, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from tests.stack import Stack

PAUSE_S = (0.4, 1.6)
"""Between two faults."""
DOWN_S = (0.3, 1.5)
"""Until what was killed is started again."""
STOPPED_S = (0.5, 5.0)
"""How long a process stands still: sometimes longer than a lease."""
WEIGHTS = {
    "kill engine": 4,
    "stop engine": 2,
    "kill worker": 3,
    "stop worker": 2,
    "kill gateway": 1,
    "stop gateway": 1,
    "kill broker": 1,
    "stop broker": 1,
}


class Faults:
    """Faults at random times, until told to end; then everything runs again."""

    def __init__(self, stack: Stack, rng: random.Random, *, workers: int) -> None:
        self._stack = stack
        self._rng = rng
        self._workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self._away: set[str] = set()
        """Processes that are dead or stand still."""
        self._healing: set[asyncio.Task[None]] = set()
        self.injected: Counter[str] = Counter()
        self.gateway_kills: dict[str, list[float]] = defaultdict(list)
        """When each gateway was killed; monotonic seconds."""

    async def run(self, until: float) -> None:
        """Inject faults until then, and wait until all is well again."""
        while monotonic() < until:
            (kind,) = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
            await self._inject(kind)
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
        await asyncio.gather(*self._healing)

    async def _inject(self, kind: str) -> None:
        action, _, what = kind.partition(" ")
        match what:
            case "engine":
                done = self._hit_engine(action)
            case "broker":
                done = self._hit_broker(action)
            case _:
                names = self._workers if what == "worker" else list(self._stack.urls)
                done = self._hit(action, self._rng.choice(names))
        self.injected[kind] += done

    def _hit_engine(self, action: str) -> bool:
        worker = self._rng.choice(self._workers)
        if worker in self._away or not (engines := self._stack.engines(worker)):
            return False
        pid = self._rng.choice(engines)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if action == "kill" else signal.SIGSTOP)
            if action == "stop":
                self._heal(self._go_on(pid))
        return True

    def _hit(self, action: str, name: str) -> bool:
        if name in self._away:
            return False
        self._away.add(name)
        if action == "stop":
            os.kill(self._stack.pid(name), signal.SIGSTOP)
            self._heal(self._go_on(self._stack.pid(name), name))
            return True
        if name in self._stack.urls:
            self.gateway_kills[name].append(monotonic())
        self._stack.kill(name)
        self._heal(self._start(name))
        return True

    def _hit_broker(self, action: str) -> bool:
        if "broker" in self._away:
            return False
        self._away.add("broker")
        if action == "stop":
            os.kill(self._stack.broker.pid, signal.SIGSTOP)
            self._heal(self._go_on(self._stack.broker.pid, "broker"))
            return True
        self._stack.broker.kill()
        self._heal(self._start_broker())
        return True

    async def _go_on(self, pid: int, name: str = "") -> None:
        await asyncio.sleep(self._rng.uniform(*STOPPED_S))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self._away.discard(name)

    async def _start(self, name: str) -> None:
        await asyncio.sleep(self._rng.uniform(*DOWN_S))
        if name in self._stack.urls:
            await asyncio.to_thread(self._stack.start_gateway, name)
        else:
            await asyncio.to_thread(self._stack.start_worker, int(name.rpartition("-")[2]))
        self._away.discard(name)

    async def _start_broker(self) -> None:
        await asyncio.sleep(self._rng.uniform(*DOWN_S))
        await asyncio.to_thread(self._stack.broker.start)
        self._away.discard("broker")

    def _heal(self, healing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(healing)
        self._healing.add(task)
