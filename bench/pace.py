"""Efficiency at the speed of boards: an answer through the stack beside the bare runtime's, turn about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from bench.boards import Bare, Models, chat, question, stack
from bench.client import Connection
from bench.figures import Figure
from tests.stack import Stack

FAMILY = "efficiency"
PACES = (16.7, 78.0)
"""Tokens a second: Qwen2.5-1.5B on RK3588 by the vendor, and the fastest board one may hope for."""
ANSWER_TOKENS = 128
GOAL = 0.995


def measure(rounds: int) -> Iterator[Figure]:
    """Both speeds; both runs of a round side by side, for the machine is never the same twice."""
    with stack() as (running, models):
        for pace in PACES:
            name = f"paced{pace:g}"
            models.create(running.url, name, pace)
            with models.bare(name, pace) as bare:
                yield from asyncio.run(_beside(running, models, bare, name, pace, rounds))


async def _beside(
    running: Stack, models: Models, bare: Bare, name: str, pace: float, rounds: int
) -> Iterator[Figure]:
    connection = await Connection.open(running.url)
    await connection.ask("/api/chat", chat(name, "hello", 2))
    shares: list[float] = []
    more_ms: list[float] = []
    lines = 0
    for number in range(rounds):
        asked = question(number)
        prompt = models.prompt(asked)
        body = chat(name, asked, ANSWER_TOKENS)
        answer, ran = await asyncio.gather(
            connection.ask("/api/chat", body),
            asyncio.to_thread(bare.run, prompt, ANSWER_TOKENS),
        )
        shares.append(ran.whole_s / answer.whole_s)
        more_ms.append(1000 * (answer.whole_s - ran.whole_s))
        lines += answer.raw.count(b'"done":false')
    connection.close()
    note = f"{rounds * ANSWER_TOKENS / lines:.2f} tokens a line"
    at = f"at {pace:g} tokens/s"
    return iter(
        (
            Figure(
                family=FAMILY,
                name=f"{at}: stack by bare",
                unit="ratio",
                values=tuple(shares),
                better="more",
                goal=GOAL,
                note=note,
            ),
            Figure(family=FAMILY, name=f"{at}: longer by", unit="ms", values=tuple(more_ms)),
        )
    )
