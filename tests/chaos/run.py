"""One run of chaos: four emulated boards, two gateways, three models, and what is true afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import ollama
from rkllm_bindings.emulator import ModelScript, read_trace

from tests.chaos.clients import Clients, Tally
from tests.chaos.faults import Faults
from tests.chaos.judging import Outcome
from tests.emulated import create, emulated, known
from tests.stack import Stack, wait_until

WORKERS = 4
CLIENTS = 10
CALM_REQUESTS = 12


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run showed."""

    seed: int
    seconds: float
    tally: Tally
    calm: Tally
    injected: dict[str, int]
    migrations: dict[str, float] = field(default_factory=dict)
    """Attempts that were lost and gone on with, by why, as the living gateways count them."""
    overlaps: int = 0
    """Runs that began while another one was under way on the same board."""

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        calm = self.calm.outcomes
        return not self.tally.wrong and not self.overlaps and set(calm) == {Outcome.ANSWERED}

    def __str__(self) -> str:
        def listed(counts: Mapping[Any, float]) -> str:
            return ", ".join(f"{name} {count:g}" for name, count in counts.items()) or "none"

        lines = [
            f"seed {self.seed}, {self.seconds:g} s, {WORKERS} boards, 2 gateways, 3 models",
            f"requests: {listed(self.tally.outcomes)}",
            f"faults: {listed(self.injected)}",
            f"attempts gone on with elsewhere: {listed(self.migrations)}",
            f"runs that overlapped on a board: {self.overlaps}",
            f"afterwards: {listed(self.calm.outcomes)}",
            f"lost: {len(self.tally.wrong)}",
            *(f"  {wrong}" for wrong in self.tally.wrong[:20]),
            *(f"  told {count} times: {why}" for why, count in self.tally.failures.items()),
        ]
        return "\n".join(lines)


def models(trace: Path) -> dict[str, ModelScript]:
    """Three models, unlike in length, speed and load time."""
    shapes = {"quick": (60, 400.0, 0.0), "middle": (150, 200.0, 100.0), "slow": (100, 80.0, 300.0)}
    return {
        name: known(
            tokens,
            seed=at,
            decode_tokens_per_s=speed,
            prefill_tokens_per_s=speed * 20,
            load_ms=load_ms,
            trace=trace,
            board="board.lock",
        )
        for at, (name, (tokens, speed, load_ms)) in enumerate(shapes.items())
    }


def run(folder: Path, *, seed: int, seconds: float) -> Report:
    """Start everything, let it suffer for so long, and look at what is left."""
    trace = folder / "trace.jsonl"
    env = {"RKLLAMA_WORKER_STALL_S": "3"}
    with emulated(folder, "abi-1.3.0", workers=WORKERS, gateways=2, **env) as stack:
        with ollama.Client(host=stack.url, trust_env=False) as client:
            scripts = {
                name: create(client, name, script, folder) for name, script in models(trace).items()
            }
        return asyncio.run(_suffer(stack, scripts, trace, seed=seed, seconds=seconds))


async def _suffer(
    stack: Stack, scripts: dict[str, ModelScript], trace: Path, *, seed: int, seconds: float
) -> Report:
    rng = random.Random(seed)
    faults = Faults(stack, random.Random(rng.getrandbits(64)), workers=WORKERS)
    clients = Clients(stack.urls, scripts, random.Random(rng.getrandbits(64)), faults.gateway_kills)
    until = monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(faults.run(until))
        tasks.create_task(clients.run(CLIENTS, until))
    await asyncio.to_thread(wait_until, "the gauges to return to zero", lambda: idle(stack))
    calm = Clients(stack.urls, scripts, random.Random(rng.getrandbits(64)), {})
    await calm.once(CALM_REQUESTS)
    await asyncio.to_thread(wait_until, "the gauges to return to zero", lambda: idle(stack))
    runs = [event for event in read_trace(trace) if event["event"] == "run"]
    return Report(
        seed=seed,
        seconds=seconds,
        tally=clients.tally,
        calm=calm.tally,
        injected=dict(faults.injected),
        migrations={
            reason: sum(
                stack.metric(url, "rkllama_migrations_total", reason=reason)
                for url in stack.urls.values()
            )
            for reason in ("lease_lost", "engine_died", "load_failed", "released")
        },
        overlaps=sum(bool(event["overlap"]) for event in runs),
    )


def idle(stack: Stack) -> bool:
    """Whether no gateway holds a request."""
    return not any(
        stack.metric(url, name)
        for url in stack.urls.values()
        for name in ("rkllama_queue_depth", "rkllama_requests_running")
    )
