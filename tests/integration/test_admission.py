"""The bound on what waits, over two real gateways: who is in waits, who is out hears it at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript

from tests.emulated import create, emulated
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.boards

BUSY = "server busy, please try again.  maximum pending requests exceeded"
BOUND, AT_ONCE = 4, 10


def together(stack: Stack) -> bool:
    """Whether each gateway knows of the other: until then each has the whole bound."""
    return all(stack.metric(url, "rkllama_gateways_ready") == 2 for url in stack.urls.values())


def waiting(stack: Stack) -> dict[str, float]:
    return {name: stack.metric(url, "rkllama_queue_depth") for name, url in stack.urls.items()}


async def test_what_is_over_the_bound_is_refused_at_once_by_each_of_two_gateways(
    tmp_path: Path,
) -> None:
    """Boards are held by answers that never end, so that the model is loaded, and nothing moves on."""
    with emulated(
        tmp_path,
        "abi-1.3.0",
        workers=2,
        gateways=2,
        RKLLAMA_GATEWAY_MAX_WAITING=str(BOUND),
    ) as stack:
        with ollama.Client(host=stack.url, trust_env=False) as client:
            script = ModelScript(answer_tokens=100_000, decode_tokens_per_s=50)
            create(client, "endless", script, tmp_path)
        wait_until("the gateways to know each other", lambda: together(stack))
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
            refused = await flooded(stack, client)

    assert Counter(refused) == dict.fromkeys(stack.urls, AT_ONCE - BOUND // len(stack.urls))


async def flooded(stack: Stack, client: httpx2.AsyncClient) -> list[str]:
    """Ten at once through each gateway; the gateway of each that was refused.

    Returns when all but the ones that wait have their answer: no refusal waits for a board.
    """
    body = {"model": "endless", "messages": [{"role": "user", "content": "on and on"}]}

    refused: asyncio.Queue[str] = asyncio.Queue()

    async def ask(name: str) -> None:
        answer = await client.post(f"{stack.urls[name]}/api/chat", json=body)
        assert (answer.status_code, answer.json()) == (503, {"error": BUSY})
        assert int(answer.headers["retry-after"]) >= 1
        refused.put_nowait(name)

    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(ask(name)) for name in stack.urls]
        await asyncio.to_thread(wait_until, "boards to be busy", lambda: running(stack) == 2)
        flood = [tasks.create_task(ask(name)) for name in stack.urls for _ in range(AT_ONCE)]
        names = [await refused.get() for _ in range(AT_ONCE * len(stack.urls) - BOUND)]
        assert waiting(stack) == dict.fromkeys(stack.urls, BOUND // len(stack.urls))
        await asyncio.to_thread(wait_until, "ps to count both", lambda: queued(stack) == BOUND)
        for task in (*held, *flood):
            task.cancel()
    return names


def queued(stack: Stack) -> int:
    """What `ps` of one gateway says of all of them."""
    told = httpx2.get(f"{stack.url}/api/ps", trust_env=False).json()
    return sum(row["waiting"] for row in told["queue"] if row["model"] == "endless:latest")


def running(stack: Stack) -> float:
    return sum(stack.metric(url, "rkllama_requests_running") for url in stack.urls.values())
