"""Memory of each process, idle and loaded; how long a start takes, and importing what it imports."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.boards import FAMILY as ABI
from bench.boards import Models, chat, processes
from bench.client import ask
from bench.figures import Figure
from bench.machine import MIB, pss_bytes, rss_bytes
from tests.emulated import emulated
from tests.stack import Stack, wait_until

FAMILY = "footprint"
GOAL_MIB = 250e6 / MIB
GOAL_START_S = 3.0
SERVICES = ("gateway", "store", "broker", "worker")
IMPORTED = {
    "the gateway": "rkllama_gateway.__main__",
    "the worker": "rkllama_worker.__main__",
    "the store": "rkllama_store.__main__",
    "an engine": "rkllama_worker.engine.__main__",
}
TOGETHER = 16


def measure(rounds: int) -> Iterator[Figure]:
    """A system that has its model on disk is started again and again, then put to work."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = Models(folder)
        with emulated(folder, ABI) as running:
            models.create(running.url, "fast")
        starts: list[float] = []
        loads: list[float] = []
        for number in range(rounds):
            # Addresses are read from logs: those of the last start are not this one's.
            for log in folder.glob("*.log"):
                log.unlink()
            began = time.perf_counter()
            with emulated(folder, ABI) as running:
                asyncio.run(ask(running.url, "/api/chat", chat("fast", "hello", 5)))
                whole_s = time.perf_counter() - began
                # It is counted when the run has been joined.
                wait_until("the load to be counted", lambda r=running: _load_s(r) > 0)
                load_s = _load_s(running)
                starts.append(whole_s - load_s)
                loads.append(load_s)
                if number == rounds - 1:
                    yield from _memory(running)
        yield _figure("start to first answer, but for the load", "s", starts, goal=GOAL_START_S)
        yield _figure("the load itself", "s", loads)
    for what, module in IMPORTED.items():
        yield _figure(f"import {what}", "s", [_import_s(module) for _ in range(rounds)])


def _load_s(running: Stack) -> float:
    return running.metric(running.worker_url(), "rkllama_model_load_seconds_sum")


def _memory(running: Stack) -> Iterator[Figure]:
    yield from _of_each(running, "idle")

    async def work() -> None:
        await asyncio.gather(
            *(ask(running.url, "/api/chat", chat("fast", "hello", 2000)) for _ in range(TOGETHER))
        )

    asyncio.run(work())
    yield from _of_each(running, "after 16 answers")


def _of_each(running: Stack, when: str) -> Iterator[Figure]:
    total = 0.0
    for name, pid in processes(running).items():
        rss = rss_bytes(pid) / MIB
        total += rss if name in SERVICES else 0
        note = f"{pss_bytes(pid) / MIB:.0f} MiB where shared pages count by share"
        yield _figure(f"{when}: {name}", "MiB", [rss], note=note)
    yield _figure(f"{when}: {' + '.join(SERVICES)}", "MiB", [total], goal=GOAL_MIB)


def _import_s(module: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def _figure(
    name: str, unit: str, values: list[float], *, goal: float | None = None, note: str = ""
) -> Figure:
    return Figure(family=FAMILY, name=name, unit=unit, values=tuple(values), goal=goal, note=note)
