"""What the stack adds to the first token, and where that goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import orjson
from rkllama_gateway.dialects.ollama import requests
from rkllama_worker.engine import model_files
from rkllama_worker.engine.template import ChatTemplate

from bench.boards import Bare, Models, chat, question, stack
from bench.client import Asked, Connection, ask
from bench.figures import Figure
from bench.machine import watched
from tests.stack import Stack

FAMILY = "first token"
TOKENS = 5
PERIOD_S = 64 / 16.7
"""One decode period: an answer of 64 tokens at 16.7 tokens a second, over which arrivals are spread."""
MOST_CLIENTS = 64
GOAL_MS = 5.0
GOAL_P99_MS = 25.0


def measure(rounds: int) -> Iterator[Figure]:
    """One warm client beside the bare runtime; 8 and 64 clients; the parts."""
    with stack() as (running, models), models.bare("fast") as bare:
        models.create(running.url, "fast")
        cold = asyncio.run(ask(running.url, "/api/chat", chat("fast", "hello", TOKENS)))
        yield _figure("cold: process, tokenizer and model loaded", [1000 * cold.first_s])
        yield from asyncio.run(_one(running, models, bare, rounds))
        for clients in (8, MOST_CLIENTS):
            waves = max(1, rounds // 20)
            yield from asyncio.run(_many(running, models, bare, clients, waves))
        yield from _parts(models, rounds)


async def _one(running: Stack, models: Models, bare: Bare, rounds: int) -> Iterator[Figure]:
    connection = await Connection.open(running.url)
    answers: list[Asked] = []
    alone: list[float] = []
    for number in range(-3, rounds):
        asked = question(number)
        answer = await connection.ask("/api/chat", chat("fast", asked, TOKENS))
        ran = bare.run(models.prompt(asked), TOKENS)
        if number >= 0:
            answers.append(answer)
            alone.append(1000 * ran.first_s)
    connection.close()
    through = [1000 * answer.first_s for answer in answers]
    added = [a - b for a, b in zip(through, alone, strict=True)]
    before = [answer.last["load_duration"] / 1e6 for answer in answers]
    prefill = [answer.last["prompt_eval_duration"] / 1e6 for answer in answers]
    rest = [t - b - p for t, b, p in zip(through, before, prefill, strict=True)]
    return iter(
        (
            _figure("1 client: bare", alone),
            _figure("1 client: through HTTP", through),
            _figure("1 client: added by the stack", added, goal=GOAL_MS),
            _figure("of it, until the prefill begins", before),
            _figure("of it, the prefill as the engine sees it", prefill),
            _figure("of it, the way back, and HTTP", rest),
        )
    )


async def _many(
    running: Stack, models: Models, bare: Bare, clients: int, waves: int
) -> Iterator[Figure]:
    connections = [await Connection.open(running.url) for _ in range(clients)]
    alone_ms = 1000 * min(bare.run(models.prompt(question(n)), TOKENS).first_s for n in range(5))

    async def arrive(number: int, over_s: float) -> float:
        await asyncio.sleep(over_s * number / clients)
        body = chat("fast", question(1000 + number), TOKENS)
        return 1000 * (await connections[number].ask("/api/chat", body)).first_s - alone_ms

    async def wave(over_s: float) -> list[float]:
        return await asyncio.gather(*(arrive(number, over_s) for number in range(clients)))

    spread: list[float] = []
    with watched() as machine:
        for _ in range(waves):
            spread += await wave(PERIOD_S)
    burst = await wave(0.0)
    for connection in connections:
        connection.close()
    busy = f"machine {machine.busy:.0%} busy"
    goal = GOAL_P99_MS if clients == MOST_CLIENTS else None
    return iter(
        (
            _figure(f"{clients} clients: added", spread, goal=goal, judged_p99=True, note=busy),
            _figure(f"{clients} clients at once: added", burst, note="one board takes turns"),
        )
    )


def _parts(models: Models, rounds: int) -> Iterator[Figure]:
    """The pure parts by themselves, in this process, with a request of the same size."""
    bodies = [orjson.dumps(chat("fast", question(n), TOKENS)) for n in range(rounds)]
    template = ChatTemplate(
        model_files.read({k: str(v) for k, v in models.files("parts").items()}).templates["default"]
    )
    texts: list[str] = []
    now = "2026-01-01T00:00:00Z"

    def render(number: int) -> None:
        said = [{"role": "user", "content": question(number)}]
        texts.append(template.render(said, tools=(), now=now, variables={}))

    yield _timed("parse the body", rounds, lambda n: requests.parse_chat(bodies[n]))
    yield _timed("render the template", rounds, render)
    yield _timed(
        "tokenise", rounds, lambda n: models.tokenizer.encode(texts[n], add_special_tokens=False)
    )


def _timed(name: str, rounds: int, work: Callable[[int], object]) -> Figure:
    values = []
    for number in range(rounds):
        began = time.perf_counter()
        work(number)
        values.append(1000 * (time.perf_counter() - began))
    return _figure(f"part: {name}", values)


def _figure(
    name: str,
    values: list[float],
    *,
    goal: float | None = None,
    judged_p99: bool = False,
    note: str = "",
) -> Figure:
    return Figure(
        family=FAMILY,
        name=name,
        unit="ms",
        values=tuple(values),
        goal=goal,
        judged="p99" if judged_p99 else "median",
        note=note,
    )
