"""Clients that ask, read, and sometimes go away."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx2
from rkllm_bindings.emulator import ModelScript

from tests.chaos.judging import Outcome, Verdict, expected, judge

LEAVES = 0.15
"""Share of the clients that close their socket in the middle."""
LINES_BEFORE_LEAVING = 40
NUM_PREDICT = (None, None, 17, 60)
REFUSED_PAUSE_S = 0.2


@dataclass(slots=True)
class Tally:
    """What became of all requests."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class Clients:
    """Asks the models at random, over all gateways, and judges every answer."""

    def __init__(
        self,
        urls: Mapping[str, str],
        models: Mapping[str, ModelScript],
        rng: random.Random,
        gateway_kills: Mapping[str, list[float]],
    ) -> None:
        self._urls = urls
        self._models = models
        self._rng = rng
        self._gateway_kills = gateway_kills
        self._asked = 0
        self.tally = Tally()

    async def run(self, count: int, until: float) -> None:
        """`count` clients at once, each with one request after the other, until then."""
        async with (
            httpx2.AsyncClient(timeout=None, trust_env=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(count):
                tasks.create_task(self._ask_until(http, until))

    async def once(self, count: int) -> None:
        """`count` requests at once, of which nobody leaves."""
        async with (
            httpx2.AsyncClient(timeout=None, trust_env=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(count):
                tasks.create_task(self._ask(http, leaves=False))

    async def _ask_until(self, http: httpx2.AsyncClient, until: float) -> None:
        while monotonic() < until:
            await self._ask(http, leaves=self._rng.random() < LEAVES)

    async def _ask(self, http: httpx2.AsyncClient, *, leaves: bool) -> None:
        self._asked += 1
        rng = self._rng
        gateway, url = rng.choice(list(self._urls.items()))
        model, script = rng.choice(list(self._models.items()))
        prompt = f"Question {self._asked}: {rng.getrandbits(32):08x}?"
        num_predict = rng.choice(NUM_PREDICT)
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "options": {} if num_predict is None else {"num_predict": num_predict},
        }
        stays_for = rng.randrange(LINES_BEFORE_LEAVING) if leaves else None
        began = monotonic()
        lines: list[str] = []
        status, broken, left = 0, False, False
        try:
            async with http.stream("POST", f"{url}/api/chat", json=body) as answer:
                status = answer.status_code
                async for line in answer.aiter_lines():
                    lines.append(line)
                    if stays_for is not None and len(lines) > stays_for:
                        left = True
                        break
        except httpx2.TransportError:
            broken = True
        killed = any(at >= began for at in self._gateway_kills.get(gateway, ()))
        if status == httpx2.codes.OK:
            want = expected(script, prompt, num_predict)
            self._note(
                judge(lines, want, left=left, broken=broken, gateway_killed=killed), model, prompt
            )
            return
        if not broken:
            self._note(Verdict(Outcome.REFUSED, "".join(lines)), model, prompt)
        elif killed:
            self._note(Verdict(Outcome.GATEWAY_GONE), model, prompt)
        # What a gateway that is down did not accept is not counted.
        await asyncio.sleep(REFUSED_PAUSE_S)

    def _note(self, verdict: Verdict, model: str, prompt: str) -> None:
        self.tally.outcomes[verdict.outcome] += 1
        if verdict.outcome is Outcome.WRONG:
            self.tally.wrong.append(f"{model} {prompt!r}: {verdict.why}")
        elif verdict.why:
            self.tally.failures[verdict.why] += 1
