"""Many requests at once: shared, whole, in order, and each run once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import ollama
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Ticket
from rkllama_protocol.subjects import Subjects
from rkllm_bindings.emulator import ModelScript
from tokenizers import Tokenizer

from tests.broker import TESTER
from tests.emulated import create, emulated
from tests.integration.conftest import MODEL
from tests.stack import Stack, wait_until

WORDS = [
    "apple", "bread", "chair", "dance", "eagle", "flame", "grape", "house", "igloo", "jelly",
    "knife", "lemon", "mouse", "night", "ocean", "piano", "queen", "river", "stone", "tiger",
]  # fmt: skip


def request_for(word: str, **options: Any) -> dict[str, Any]:
    """A request whose prompt names `word`; all are of one length, so of one cost."""
    return {
        "model": MODEL,
        "prompt": f"Write a sentence about: {word}",
        "options": {"temperature": 0, "num_predict": 12} | options,
    }


class Streamed:
    """An answer as it came: its text, its last record, and when its first line came."""

    def __init__(self, lines: list[dict[str, Any]], first_at: float) -> None:
        self.text = "".join(line.get("response", "") for line in lines)
        self.last = lines[-1]
        self.first_at = first_at


async def stream(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> Streamed:
    lines: list[dict[str, Any]] = []
    first_at = 0.0
    async with client.stream("POST", f"{url}/api/generate", json=body) as answer:
        async for line in answer.aiter_lines():
            first_at = first_at or asyncio.get_running_loop().time()
            lines.append(json.loads(line))
    return Streamed(lines, first_at)


async def test_twenty_at_once_all_finish_whole_and_in_order(tmp_path: Path) -> None:
    """The board is held by an answer that never ends until all twenty wait; then its client leaves."""
    with emulated(tmp_path, "abi-1.3.0") as stack, ollama.Client(host=stack.url) as client:
        script = ModelScript(answer_tokens=100_000, decode_tokens_per_s=50)
        create(client, "endless", script, tmp_path)
        answers = await twenty_at_once(stack)

    assert [answer.last["done"] for answer in answers] == [True] * len(WORDS)
    assert [answer.last["eval_count"] for answer in answers] == [12] * len(WORDS)
    starts = [answer.first_at for answer in answers]
    assert starts == sorted(starts)


async def twenty_at_once(stack: Stack) -> list[Streamed]:
    """Twenty answers of one length, asked for one after another while the board is busy."""

    def running() -> bool:
        return stack.metric(stack.url, "rkllama_requests_running") == 1

    def waiting(number: int) -> bool:
        return stack.queued() >= number

    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        tasks: list[asyncio.Task[Streamed]] = []
        endless = {"model": "endless", "prompt": "zebra", "options": {"num_predict": 12}}
        first = asyncio.create_task(stream(client, stack.url, endless | {"options": {}}))
        await asyncio.to_thread(wait_until, "the first to run", running)
        for number, word in enumerate(WORDS, start=1):
            tasks.append(asyncio.create_task(stream(client, stack.url, endless | {"prompt": word})))
            await asyncio.to_thread(wait_until, "it to wait", partial(waiting, number))
        first.cancel()
        return [await task for task in tasks]


async def test_two_workers_share_and_mix_nothing_up(two_workers: Stack) -> None:
    """`context` is every id of prompt and answer: it must be this client's own."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        answers = await asyncio.gather(
            *(stream(client, two_workers.url, request_for(word)) for word in WORDS)
        )

    assert all(answer.last["eval_count"] == 12 for answer in answers)
    assert min(two_workers.runs(worker) for worker in ("worker-1", "worker-2")) > 1
    tokenizer = stored_tokenizer(two_workers)
    for word, answer in zip(WORDS, answers, strict=True):
        text = tokenizer.decode(answer.last["context"], skip_special_tokens=True)
        assert f"about: {word}" in text
        assert text.endswith(answer.text)


def stored_tokenizer(stack: Stack) -> Tokenizer:
    """The tokenizer that the store keeps with the model."""
    small = (p for p in (stack.folder / "models" / "blobs").iterdir() if p.stat().st_size < 10**7)
    found = next(path for path in small if b'"added_tokens"' in path.read_bytes())
    return Tokenizer.from_file(str(found))


async def test_an_offer_heard_twice_is_run_once(two_workers: Stack) -> None:
    """Every ticket is published a second time by somebody else, as a broker's retry might."""
    subjects = Subjects()
    echoed: Counter[bytes] = Counter()
    echoes: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def echo(subject: str, data: bytes) -> None:
        echoed[data] += 1
        if echoed[data] == 1:
            echoes.put_nowait((subject, data))

    async def repeat(bus: Bus) -> None:
        while True:
            await bus.publish(*await echoes.get())

    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(two_workers.broker.url, name="echo", tasks=tasks, access=TESTER) as bus,
        httpx2.AsyncClient(timeout=None, trust_env=False) as client,
    ):
        await bus.subscribe(subjects.offers, echo)
        await bus.flush()
        repeater = tasks.create_task(repeat(bus))
        answers = await asyncio.gather(
            *(stream(client, two_workers.url, request_for(word)) for word in WORDS[:8])
        )
        repeater.cancel()

    assert all(answer.last["done"] for answer in answers)
    assert len({codec.decode(Ticket, data).job_id for data in echoed}) == 8
    assert sum(two_workers.runs(worker) for worker in ("worker-1", "worker-2")) == 8
