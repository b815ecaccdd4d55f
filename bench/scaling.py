"""More boards: 1 to 32 emulated ones on one machine, behind one gateway and behind two."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import ollama
from rkllm_bindings.emulator import ModelScript

from bench.boards import FAMILY as ABI
from bench.boards import chat
from bench.client import ask
from bench.figures import Figure
from bench.machine import Watched, watched
from tests.emulated import create, emulated
from tests.stack import Stack, wait_until

FAMILY = "scaling"
BOARDS = (1, 2, 4, 8, 16, 32)
PACE = 16.7
TOKENS = 48
GOAL = 0.97
FULL = 0.9
"""A machine busier than this is itself what saturates."""


def measure(rounds: int, sizes: Sequence[int] = BOARDS) -> Iterator[Figure]:
    """Boards are added to one system; every board has one stream at a time."""
    with (
        tempfile.TemporaryDirectory() as name,
        emulated(Path(name), ABI, most_workers=sizes[-1], gateways=2) as running,
    ):
        with ollama.Client(host=running.url, trust_env=False) as client:
            script = ModelScript(seed=1, answer_tokens=10**6, decode_tokens_per_s=PACE)
            create(client, "paced", script, Path(name))
        base: dict[int, float] = {}
        started = 1
        for boards in sizes:
            for number in range(started + 1, boards + 1):
                running.start_worker(number)
            started = max(started, boards)
            wait_until(
                "all boards",
                lambda boards=boards: running.metric(running.url, "rkllama_boards_ready") >= boards,
            )
            asyncio.run(_warm(running, boards))
            for gateways in (1, 2):
                urls = [running.urls["gateway"], running.urls["gateway-2"]][:gateways]
                speeds, machines = [], []
                for _ in range(rounds):
                    with watched(_processes(running)) as machine:
                        asyncio.run(_wave(urls, boards, TOKENS))
                    speeds.append(boards * TOKENS / machine.seconds)
                    machines.append(machine)
                base.setdefault(gateways, sorted(speeds)[len(speeds) // 2])
                yield _figure(boards, gateways, speeds, base[gateways], machines)


def _figure(
    boards: int, gateways: int, speeds: list[float], base: float, machines: list[Watched]
) -> Figure:
    busy = sum(machine.busy for machine in machines) / len(machines)
    last = machines[-1]
    most = max(last.cpu_us, key=lambda name: last.cpu_us[name])
    share = last.cpu_us[most] / 1e6 / last.seconds
    return Figure(
        family=FAMILY,
        name=f"{boards} board{'s' * (boards > 1)}, {gateways} gateway{'s' * (gateways > 1)}",
        unit="of linear",
        values=tuple(speed / base / boards for speed in speeds),
        better="more",
        goal=GOAL if busy < FULL else None,
        note=f"{boards * TOKENS / last.seconds:.0f} tokens/s, {boards / last.seconds:.1f} requests/s, "
        f"machine {busy:.0%} busy, most: {most} {share:.0%} of a core",
    )


def _processes(running: Stack) -> dict[str, int]:
    found = {name: running.pid(name) for name in ("gateway", "gateway-2", "worker-1")}
    return found | {
        "broker": running.broker.pid,
        "an engine": running.engines()[-1],
        "client": os.getpid(),
    }


async def _warm(running: Stack, boards: int) -> None:
    """Until every board has the model: a free board that has it not loads it only when all others are busy."""
    while _engines(running, boards) < boards:
        await _wave([running.url], boards, TOKENS)


def _engines(running: Stack, boards: int) -> int:
    return sum(bool(running.engines(f"worker-{n}")) for n in range(1, boards + 1))


async def _wave(urls: list[str], streams: int, tokens: int) -> None:
    await asyncio.gather(
        *(
            ask(urls[n % len(urls)], "/api/chat", chat("paced", f"hello {n}", tokens))
            for n in range(streams)
        )
    )
