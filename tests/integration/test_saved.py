"""A board keeps conversations in files while others have its context: taken up again, and never by others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from rkllama_service import key_file
from rkllama_service.keys import Scope
from rkllm_bindings.emulator import ModelScript, read_trace

from tests.emulated import create, emulated, known
from tests.integration.conftest import MODEL
from tests.stack import Stack, prepared, wait_until

pytestmark = pytest.mark.boards

TOKENS = 40
FIRST = "Tell me of the sea, and take your time about it. " * 14
OTHER = "What is there to say of the mountains? Nothing short. " * 14
NEXT = "And what of its tides?"
Messages = list[dict[str, str]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def ask(url: str, messages: Messages, model: str = "m", **more: Any) -> str:
    """The answer, which is appended to the messages."""
    key = more.pop("key", "")
    body = {"model": model, "messages": messages, "stream": False, **more}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = httpx2.post(
        f"{url}/api/chat", json=body, headers=headers, timeout=None, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    said: str = answer.json()["message"]["content"]
    messages.append({"role": "assistant", "content": said})
    return said


def warm(url: str, model: str = "m", **more: Any) -> None:
    """A board saves what it knows to be worth it: it has read a prompt before."""
    ask(url, [user("Good morning, and a very fine one it is.")], model, **more)


def idle(stack: Stack) -> bool:
    return stack.metric(stack.worker_url(), "rkllama_board_state", state="idle") == 1


def kept(stack: Stack) -> list[Path]:
    """What is there when the last run is over: an answer does not wait for its file."""
    wait_until("the board to be idle", lambda: idle(stack))
    return saved(stack)


def saved(stack: Stack) -> list[Path]:
    folder = stack.folder / "saved" / "worker-1"
    return [path for path in folder.glob("*") if path.name != "lock"]


def restores(stack: Stack, outcome: str = "restored") -> float:
    url = stack.worker_url()
    return stack.metric(url, "rkllama_worker_restores_total", outcome=outcome)


def script(folder: Path, **facts: Any) -> ModelScript:
    speeds = {"prefill_tokens_per_s": 400, "decode_tokens_per_s": 1000, "restore_ms": 20}
    return known(TOKENS, **{**speeds, "trace": folder / "trace", **facts})


def whole(script: ModelScript, messages: Messages) -> str:
    """What the model says behind these messages, whatever board says it, from whatever context."""
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    ids = script.tokenize(f"{text}<|im_start|>assistant\n")
    # A character that has begun is finished.
    return script.text(script.continuation(ids, TOKENS + 3)).decode()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Stack]:
    with emulated(tmp_path, "abi-1.3.0", RKLLAMA_WORKER_RKLLM_SAVED="true") as stack:
        yield stack


def made(stack: Stack, folder: Path, *, key: str = "", **facts: Any) -> ModelScript:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with ollama.Client(host=stack.url, headers=headers, trust_env=False) as client:
        return create(client, "m", script(folder, **facts), folder)


def runs_of(folder: Path, event: str = "run_end") -> list[dict[str, Any]]:
    return [line for line in read_trace(folder / "trace") if line["event"] == event]


def test_a_conversation_goes_on_from_its_file_after_another_had_the_context(
    board: Stack, tmp_path: Path
) -> None:
    model = made(board, tmp_path)
    warm(board.url)
    first, other = [user(FIRST)], [user(OTHER)]
    ask(board.url, first)
    ask(board.url, other)
    reused = board.metric(board.url, "rkllama_tokens_total", type="reused")
    first.append(user(NEXT))
    expected = whole(model, first)
    said = ask(board.url, first)
    reused = board.metric(board.url, "rkllama_tokens_total", type="reused") - reused

    assert said == expected
    assert restores(board) == 1
    # All of the first prompt; its answer is not in the library's file.
    assert runs_of(tmp_path)[-1]["reused"] >= len(FIRST)
    assert reused == runs_of(tmp_path)[-1]["reused"]


def test_another_key_gets_nothing_of_it(tmp_path: Path) -> None:
    """The same words, but another's: they are read as if nobody had ever said them."""
    now = datetime.now(UTC)
    bearers = {
        name: key_file.create(tmp_path / "keys.json", name, Scope.ADMIN, now=now)
        for name in ("ann", "bob")
    }
    env = {"RKLLAMA_WORKER_RKLLM_SAVED": "true", "RKLLAMA_AUTH": "all"}
    with emulated(tmp_path, "abi-1.3.0", **env) as stack:
        model = made(stack, tmp_path, key=bearers["ann"])
        url = stack.url
        warm(url, key=bearers["ann"])
        ask(url, [user(FIRST)], key=bearers["ann"])
        ask(url, [user(OTHER)], key=bearers["ann"])
        said = ask(url, [user(FIRST)], key=bearers["bob"])
        foreign = restores(stack)
        ask(url, [user(OTHER)], key=bearers["ann"])
        own = restores(stack)

    assert said == whole(model, [user(FIRST)])
    assert (foreign, own) == (0, 1)
    # What all prompts of the model begin with is in the live context, and of the file nothing.
    assert runs_of(tmp_path)[-2]["reused"] < 20


def test_a_conversation_outlives_its_model(board: Stack, tmp_path: Path) -> None:
    model = made(board, tmp_path)
    warm(board.url)
    first = [user(FIRST)]
    ask(board.url, first, keep_alive=0)
    wait_until("the model to be gone", lambda: not board.engines())
    first.append(user(NEXT))
    expected = whole(model, first)

    assert ask(board.url, first) == expected
    assert restores(board) == 1


def test_nothing_is_left_behind(board: Stack, tmp_path: Path) -> None:
    """Not by a worker that ends, and not by one that is killed: its successor empties the folder."""
    made(board, tmp_path)
    warm(board.url)
    ask(board.url, [user(FIRST)])
    made_first = kept(board)
    board.kill("worker-1")
    left = saved(board)
    board.start_worker(1, RKLLAMA_WORKER_RKLLM_SAVED="true")
    wait_until("the folder to be empty", lambda: not saved(board))
    warm(board.url)
    ask(board.url, [user(FIRST)])
    again = kept(board)
    board.terminate("worker-1")

    assert len(made_first) == len(left) == len(again) == 1
    assert not (board.folder / "saved" / "worker-1").exists()


def test_a_runtime_that_refuses_is_not_asked_again(board: Stack, tmp_path: Path) -> None:
    """As with RWKV: every answer is right, and only the first run tried to save."""
    model = made(board, tmp_path, prompt_cache_works=False)
    warm(board.url)
    for text in (FIRST, OTHER, FIRST):
        assert ask(board.url, [user(text)]) == whole(model, [user(text)])

    tried = [run for run in runs_of(tmp_path, "run") if run["save_prompt_cache"]]
    assert len(tried) == 1
    assert not kept(board)


def test_a_file_that_is_gone_costs_a_prefill_and_nothing_else(board: Stack, tmp_path: Path) -> None:
    model = made(board, tmp_path)
    warm(board.url)
    first, other = [user(FIRST)], [user(OTHER)]
    ask(board.url, first)
    ask(board.url, other)
    for path in kept(board):
        path.unlink()
    first.append(user(NEXT))
    expected = whole(model, first)

    assert ask(board.url, first) == expected
    assert restores(board, "refused") == 1


def test_no_client_waits_for_a_file(models: Path, tmp_path: Path) -> None:
    """A disk may take its time: the answer is whole, its board is busy, and nobody is cut off by it."""
    with Stack(prepared(models, tmp_path)) as stack:
        options = {"options": {"temperature": 0, "num_predict": 4}}
        warm(stack.url, MODEL, **options)
        ask(stack.url, [user(FIRST)], MODEL, **options)
        (file,) = kept(stack)
        # Opened for writing, it stands still until somebody reads.
        slow = file.with_name(f"{file.stem}.2.part")
        os.mkfifo(slow)
        said = ask(stack.url, [user(FIRST)], MODEL, **options)
        # Longer than until its gateway wants no more of the run, and than an abort may take.
        late = httpx2.post(
            f"{stack.url}/api/chat",
            json={"model": MODEL, "messages": [user(OTHER)]},
            headers={"x-rkllama-deadline": "6"},
            timeout=None,
            trust_env=False,
        )
        with slow.open("rb") as reader:
            size = len(reader.read())
        again = ask(stack.url, [user(FIRST)], MODEL, **options)
        died = stack.runs(outcome="engine_died")

    assert late.status_code == 503
    assert said == again
    assert size > 1e6
    assert died == 0


def test_the_npus_runtime_saves_nothing_unless_it_is_asked_to(tmp_path: Path) -> None:
    with emulated(tmp_path, "abi-1.3.0") as stack:
        made(stack, tmp_path)
        warm(stack.url)
        ask(stack.url, [user(FIRST)])
        files = kept(stack)

    assert not files
    assert not [run for run in runs_of(tmp_path, "run") if run["save_prompt_cache"]]


def test_the_real_model_says_the_same_from_a_file(models: Path, tmp_path: Path) -> None:
    """llama.cpp: a conversation, another one, the first again; beside a board that saves nothing."""
    told: list[list[str]] = []
    for name, size in (("without", "0"), ("with", str(2**30))):
        (tmp_path / name).mkdir()
        env = {"RKLLAMA_WORKER_SAVED_BYTES": size}
        with Stack(prepared(models, tmp_path / name), env=env) as stack:
            options = {"options": {"temperature": 0, "num_predict": 24}}
            warm(stack.url, MODEL, **options)
            first, other = [user(FIRST)], [user(OTHER)]
            answers = [ask(stack.url, talk, MODEL, **options) for talk in (first, other)]
            first.append(user(NEXT))
            answers.append(ask(stack.url, first, MODEL, **options))
            told.append(answers)
            restored = restores(stack)
            reused = stack.metric(stack.url, "rkllama_tokens_total", type="reused")

    assert told[0] == told[1]
    assert restored == 1
    assert reused > 100
