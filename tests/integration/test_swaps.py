"""More models than room for them, on real processes: few swaps, and nobody is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply

from tests.emulated import create, emulated
from tests.stack import Stack

pytestmark = pytest.mark.boards

NAMES = ("one", "two", "three")
EACH = 8


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Stack]:
    """Two boards with room for one model each, and three models."""
    with (
        emulated(tmp_path, "abi-1.3.0", workers=2, RKLLAMA_WORKER_MAX_MODELS="1") as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        for name in NAMES:
            # The names are in the replies: weights of the same bytes would be the same model.
            script = ModelScript(replies=[Reply(text=f"I am {name}.")], load_ms=500)
            create(client, name, script, tmp_path)
        yield stack


def loads(stack: Stack) -> int:
    logs = (stack.log(f"worker-{number}").read_text() for number in (1, 2))
    return sum(log.count('"event":"model loaded"') for log in logs)


def ask(stack: Stack, name: str) -> str:
    with ollama.Client(host=stack.url, trust_env=False) as client:
        answer = client.chat(name, [{"role": "user", "content": "who are you?"}])
    return str(answer.message.content)


def test_requests_for_three_models_in_turn_swap_far_less_than_they_alternate(
    crowded: Stack,
) -> None:
    """Whoever takes the oldest request first loads a model for nearly every one of them."""
    names = NAMES * EACH
    with ThreadPoolExecutor(len(names)) as pool:
        told = list(pool.map(lambda name: ask(crowded, name), names))

    assert told == [f"I am {name}." for name in names]
    assert loads(crowded) <= len(names) // 3


def test_a_rare_model_gets_its_turn_while_others_never_stop(crowded: Stack) -> None:
    """Four clients ask for two models without a break until the third has answered."""
    over = False

    def insist(name: str) -> int:
        answers = 0
        while not over:
            assert ask(crowded, name) == f"I am {name}."
            answers += 1
        return answers

    with ThreadPoolExecutor(4) as pool:
        crowd = [pool.submit(insist, name) for name in NAMES[:2] * 2]
        try:
            told = [ask(crowded, NAMES[2]) for _ in range(2)]
        finally:
            over = True
        answered = [done.result() for done in crowd]

    assert told == ["I am three."] * 2
    assert all(answered)
