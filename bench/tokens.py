"""What a token costs: tokens a second, and CPU time of each process, with a runtime that never waits."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterator

import httpx2

from bench import tools
from bench.boards import chat, processes, stack
from bench.client import Asked, ask
from bench.figures import Figure
from bench.machine import watched
from tests.stack import Stack

FAMILY = "tokens"
TOKENS = 4000
STREAMS = (1, 16, 64, 256)
MOST_TOKENS = 200_000
"""Of all streams together, in one round."""
GOAL_PER_S = 40_000.0
HOPS = 300


def measure(rounds: int) -> Iterator[Figure]:
    """The bare runtime, then the stack with more and more streams."""
    with stack() as (running, models), models.bare("fast") as bare:
        models.create(running.url, "fast")
        asyncio.run(ask(running.url, "/api/chat", chat("fast", "hello", 5)))
        expected = models.tokenizer.decode(bare.run(models.prompt("hello"), TOKENS).ids)
        alone: list[float] = []
        for streams in STREAMS:
            tokens = min(TOKENS, MOST_TOKENS // streams)
            speeds: list[float] = []
            costs: dict[str, list[float]] = defaultdict(list)
            lines: list[float] = []
            busy: list[float] = []
            for _ in range(rounds):
                ran = bare.run(models.prompt("hello"), TOKENS)
                alone.append(TOKENS / ran.whole_s)
                with watched({**processes(running), "client": os.getpid()}) as machine:
                    answers = asyncio.run(_together(running.url, streams, tokens))
                made = streams * tokens
                speeds.append(made / machine.seconds)
                busy.append(machine.busy)
                for process, spent in machine.cpu_us.items():
                    costs[process].append(spent / made)
                _check(answers, expected, tokens)
                lines.append(made / sum(a.raw.count(b'"done":false') for a in answers))
            name = f"{streams} stream{'s' * (streams > 1)}"
            note = f"{_median(lines):.0f} tokens a line, machine {_median(busy):.0%} busy"
            yield _figure(name, "tokens/s", speeds, goal=GOAL_PER_S, note=note)
            for process, values in costs.items():
                yield _figure(f"{name}: CPU of the {process}", "us/token", values)
        yield _figure("bare runtime", "tokens/s", alone)
        yield from asyncio.run(_hops(running))
        yield from tools.measure(running.url, FAMILY, 3 * rounds)


def _check(answers: list[Asked], expected: str, tokens: int) -> None:
    """Every stream says what the bare runtime does, token for token."""
    for answer in answers:
        if answer.last["eval_count"] != tokens or not expected.startswith(answer.text):
            raise RuntimeError("the stack does not say what the bare runtime says")


async def _together(url: str, streams: int, tokens: int) -> list[Asked]:
    return await asyncio.gather(
        *(ask(url, "/api/chat", chat("fast", "hello", tokens)) for _ in range(streams))
    )


async def _hops(running: Stack) -> Iterator[Figure]:
    """What one hop takes when nothing else is going on."""
    found: dict[str, list[float]] = defaultdict(list)
    async with httpx2.AsyncClient(base_url=running.url, trust_env=False) as client:
        for path, hop in (("/api/version", "HTTP"), ("/api/ps", "HTTP and the broker to a board")):
            for _ in range(HOPS):
                began = time.perf_counter()
                (await client.get(path)).raise_for_status()
                found[hop].append(1000 * (time.perf_counter() - began))
    return iter(
        Figure(family=FAMILY, name=f"hop: {hop}", unit="ms", values=tuple(values), judged="p99")
        for hop, values in found.items()
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _figure(
    name: str, unit: str, values: list[float], *, goal: float | None = None, note: str = ""
) -> Figure:
    return Figure(
        family=FAMILY,
        name=name,
        unit=unit,
        values=tuple(values),
        goal=goal,
        note=note,
        better="more" if unit == "tokens/s" else "less",
    )
