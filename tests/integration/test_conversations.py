"""A conversation goes on where it is held, on real processes with emulated boards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply

from tests.emulated import create, emulated
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.boards

WORKERS = ("worker-1", "worker-2")
TURNS = 6
QUESTION = "Tell me more, and take your time about it. " * 20
REPLIES = (
    Reply(text="and so on " * 10_000, when="on and on"),
    Reply(text="As I said before."),
)


def test_every_turn_of_a_conversation_runs_where_the_last_one_did(tmp_path: Path) -> None:
    """Both boards have the model: what a board holds of the prompt is all that tells them apart."""
    with (
        emulated(tmp_path, "abi-1.3.0", workers=2) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        script = ModelScript(replies=REPLIES, prefill_tokens_per_s=5000, decode_tokens_per_s=100)
        create(client, "m", script, tmp_path)
        history = [{"role": "user", "content": QUESTION}]
        with held(stack):
            history.append(dict(client.chat("m", history).message))
        wait_until("both boards to be free", lambda: sum(runs(stack)) == 2)
        before = runs(stack)
        for _ in range(TURNS):
            history.append({"role": "user", "content": QUESTION})
            history.append(dict(client.chat("m", history).message))
        wait_until("every run to be counted", lambda: sum(runs(stack)) == 2 + TURNS)
        ran = [now - then for now, then in zip(runs(stack), before, strict=True)]
        read = stack.metric(stack.url, "rkllama_tokens_total", type="input")
        reused = stack.metric(stack.url, "rkllama_tokens_total", type="reused")

    assert sorted(ran) == [0, TURNS]
    # Each turn reads its own question only: of 2 + 3 + ... + 7 questions, all but the new ones.
    assert reused > 0.6 * read


def runs(stack: Stack) -> list[float]:
    return [stack.runs(worker) for worker in WORKERS]


@contextmanager
def held(stack: Stack) -> Iterator[None]:
    """One board answers somebody else in this context, who then goes away."""
    with httpx2.Client(timeout=None, trust_env=False) as other:
        body = {"model": "m", "messages": [{"role": "user", "content": "on and on"}]}
        with other.stream("POST", f"{stack.url}/api/chat", json=body) as endless:
            next(endless.iter_lines())
            yield
