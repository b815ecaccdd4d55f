"""An answer goes on when its board dies, hangs, or is shut down; what each client sees."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, read_trace

from tests.emulated import create, emulated, known, prompt_ids
from tests.stack import Stack, alive, wait_until

pytestmark = pytest.mark.boards

TOKENS = 300
PROMPT = "Tell me of the sea."


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Stack]:
    """Two boards."""
    with emulated(tmp_path, "abi-1.3.0", workers=2, RKLLAMA_WORKER_STALL_S="2") as stack:
        yield stack


def made(stack: Stack, folder: Path, **facts: Any) -> ModelScript:
    """The model `m`: 300 tokens of one known answer, in a second and a half."""
    script = known(TOKENS, **{"decode_tokens_per_s": 200, "trace": folder / "trace", **facts})
    with ollama.Client(host=stack.url, trust_env=False) as client:
        return create(client, "m", script, folder)


def whole(script: ModelScript) -> str:
    return script.text(script.continuation(prompt_ids(script, PROMPT), TOKENS)).decode()


@contextmanager
def answering(http: httpx2.Client, url: str, **options: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The records of an answer of which ten have come."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "options": options}
    with http.stream("POST", f"{url}/api/chat", json=body) as answer:
        records = (json.loads(line) for line in answer.iter_lines())
        first = [next(records) for _ in range(10)]
        yield (record for group in (first, records) for record in group)


def text(records: list[dict[str, Any]]) -> str:
    assert not [record for record in records if "error" in record]
    return "".join(record["message"]["content"] for record in records)


def busy(stack: Stack) -> str:
    """The worker that has the one job; its engine is running."""
    (taken,) = [
        line
        for line in stack.log("gateway").read_text().splitlines()
        if "job granted" in line and '"attempt":1' in line
    ][-1:]
    worker_id: str = json.loads(taken)["worker_id"]
    return worker_id


def warm(http: httpx2.Client, stack: Stack) -> None:
    """Have the model loaded on both boards."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": False}
    with ThreadPoolExecutor(2) as pool:
        for answer in pool.map(lambda _: http.post(f"{stack.url}/api/chat", json=body), range(2)):
            assert answer.status_code == 200
    assert all(stack.engines(f"worker-{number}") for number in (1, 2))


def stop_engine(stack: Stack, worker: str) -> None:
    for pid in stack.engines(worker):
        os.kill(pid, signal.SIGSTOP)


def stop_worker(stack: Stack, worker: str) -> None:
    os.kill(stack.pid(worker), signal.SIGSTOP)


def kill_engine(stack: Stack, worker: str) -> None:
    for pid in stack.engines(worker):
        os.kill(pid, signal.SIGKILL)


FAULTS: dict[str, Callable[[Stack, str], object]] = {
    "kill -9 of the worker": Stack.kill,
    "kill -9 of its engine": kill_engine,
    "the worker stands still": stop_worker,
    "the engine stands still": stop_engine,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_goes_on_when_its_board_fails(
    boards: Stack,
    http: httpx2.Client,
    tmp_path: Path,
    fault: str,
    record_property: Callable[[str, object], None],
) -> None:
    script = made(boards, tmp_path)
    warm(http, boards)
    with answering(http, boards.url) as stream:
        records = [next(stream) for _ in range(10)]
        worker = busy(boards)
        FAULTS[fault](boards, worker)
        at = time.monotonic()
        gap_s = 0.0
        for record in stream:
            records.append(record)
            now = time.monotonic()
            gap_s, at = max(gap_s, now - at), now
    record_property("seconds without a token", round(gap_s, 2))
    sys.stderr.write(f"{fault}: {gap_s:.2f} s without a token\n")
    end = records[-1]

    assert text(records) == whole(script)
    assert (end["done_reason"], end["eval_count"]) == ("stop", TOKENS)
    assert end["prompt_eval_count"] == len(prompt_ids(script, PROMPT))
    assert end["eval_duration"] >= 0.9 * TOKENS / 200 * 1e9
    last = [run for run in read_trace(tmp_path / "trace") if run["event"] == "run"][-1]
    prompt = prompt_ids(script, PROMPT)
    resumed = last["ids"][len(prompt) :]
    assert last["ids"][: len(prompt)] == prompt
    assert resumed
    assert resumed == script.continuation(prompt, len(resumed))
    if alive(boards.pid(worker)):
        os.kill(boards.pid(worker), signal.SIGCONT)


def test_one_board_alone_goes_on_after_its_engine_died(tmp_path: Path, http: httpx2.Client) -> None:
    with emulated(tmp_path, "abi-1.3.0") as stack:
        script = made(stack, tmp_path)
        with answering(http, stack.url) as stream:
            kill_engine(stack, "worker-1")
            records = list(stream)

    assert text(records) == whole(script)


def test_a_job_that_kills_every_engine_is_given_up_and_told(
    boards: Stack, http: httpx2.Client, tmp_path: Path
) -> None:
    made(boards, tmp_path, fault="segfault", fault_after=20)
    with answering(http, boards.url) as stream:
        records = list(stream)

    assert "SIGSEGV" in records[-1]["error"]
    assert "given up after" in records[-1]["error"]
    assert boards.metric(boards.url, "rkllama_requests_total", outcome="error") == 1


def test_a_worker_that_is_shut_down_hands_its_answer_over(
    tmp_path: Path, http: httpx2.Client
) -> None:
    """Both are restarted, one after the other, under load: no stream drops."""
    env = {"RKLLAMA_WORKER_DRAIN_TIMEOUT_S": "0.2"}
    with emulated(tmp_path, "abi-1.3.0", workers=2) as stack:
        for number in (1, 2):
            stack.terminate(f"worker-{number}")
            stack.start_worker(number, **env)
        script = made(stack, tmp_path)
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": False}
        over = threading.Event()

        def ask() -> list[dict[str, Any]]:
            got = []
            while not over.is_set():
                got.append(http.post(f"{stack.url}/api/chat", json=body).json())
            return got

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            for number in (1, 2):
                name = f"worker-{number}"
                wait_until(f"{name} to run", lambda name=name: stack.engines(name))
                assert stack.terminate(name) == 0
                stack.start_worker(number, **env)
            over.set()
            answers = [answer for future in asking for answer in future.result()]
        released = stack.metric(stack.url, "rkllama_migrations_total", reason="released")

    assert {answer["message"]["content"] for answer in answers} == {whole(script)}
    assert {answer["eval_count"] for answer in answers} == {TOKENS}
    assert released


def test_a_worker_is_drained_from_afar_and_its_answer_goes_on(
    boards: Stack, http: httpx2.Client, tmp_path: Path
) -> None:
    script = made(boards, tmp_path)
    cli = [sys.executable, "-m", "rkllama_cli", "drain"]
    env = os.environ | {"RKLLAMA_HOST": boards.url}
    with answering(http, boards.url) as stream:
        worker = busy(boards)
        drained = subprocess.run([*cli, worker], env=env, check=True, capture_output=True)
        got = text(list(stream))
    code = boards.wait(worker)
    unknown = subprocess.run([*cli, "nobody"], env=env, check=False, capture_output=True)
    answer = http.post(
        f"{boards.url}/api/generate", json={"model": "m", "prompt": "", "stream": False}
    )

    assert drained.stdout.decode() == f"draining '{worker}'\n"
    assert (got, code) == (whole(script), 0)
    assert unknown.returncode == 1
    assert b"worker 'nobody' not found: there are" in unknown.stderr
    assert answer.json()["done_reason"] == "load"


def test_a_broker_restart_with_fifty_waiting_and_two_running_costs_nobody_anything(
    boards: Stack, http: httpx2.Client, tmp_path: Path
) -> None:
    script = made(boards, tmp_path, decode_tokens_per_s=2000)
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": False}
    with answering(http, boards.url), ThreadPoolExecutor(52) as pool:
        asked = [pool.submit(http.post, f"{boards.url}/api/chat", json=body) for _ in range(52)]
        wait_until("fifty to wait", lambda: boards.queued() >= 50 or asked[-1].done())
        boards.broker.kill()
        boards.broker.start()
        answers = [future.result().json() for future in asked]

    assert [answer["message"]["content"] for answer in answers] == [whole(script)] * 52


def test_a_broker_that_stands_still_costs_nobody_an_attempt(
    boards: Stack, http: httpx2.Client, tmp_path: Path
) -> None:
    """For ten seconds, five times a lease: nobody hears of anybody, and nobody is taken to be dead."""
    script = made(boards, tmp_path, decode_tokens_per_s=30)
    with answering(http, boards.url) as stream:
        os.kill(boards.broker.pid, signal.SIGSTOP)
        try:
            wait_until("it to be noticed", lambda: not answers(http, boards.url))
            meanwhile = http.get(f"{boards.url}/api/tags", timeout=None)
        finally:
            os.kill(boards.broker.pid, signal.SIGCONT)
        got = text(list(stream))

    assert meanwhile.status_code == 503
    assert got == whole(script)
    assert boards.metric(boards.url, "rkllama_migrations_total") == 0
    assert http.get(f"{boards.url}/api/tags").status_code == 200


def test_the_boards_of_a_gateway_that_died_are_free_again(
    tmp_path: Path, http: httpx2.Client
) -> None:
    """And a worker that is told to end does not go on telling it that its run is over."""
    with emulated(tmp_path, "abi-1.3.0", gateways=2) as stack:
        script = made(stack, tmp_path, decode_tokens_per_s=20)
        with answering(http, stack.urls["gateway-2"]) as stream:
            stack.kill("gateway-2")
            with pytest.raises(httpx2.TransportError):
                list(stream)
        with answering(http, stack.url, num_predict=20) as stream:
            got = text(list(stream))
        aborted = stack.runs(outcome="aborted")
        code = stack.terminate("worker-1")

    assert whole(script).startswith(got.rstrip("\ufffd"))
    assert (aborted, code) == (1, 0)


def answers(http: httpx2.Client, url: str) -> bool:
    """Whether the gateway is there, and ready."""
    try:
        return http.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_gateway_that_is_shut_down_ends_its_streams_first(
    tmp_path: Path, http: httpx2.Client
) -> None:
    """Both are restarted, one after the other, each in the middle of an answer: no stream drops."""
    with emulated(tmp_path, "abi-1.3.0", gateways=2) as stack:
        script = made(stack, tmp_path)
        told, codes = [], []
        for name in stack.urls:
            with answering(http, stack.urls[name]) as stream:
                os.kill(stack.pid(name), signal.SIGTERM)
                told.append(text(list(stream)))
            codes.append(stack.wait(name))
            stack.start_gateway(name)
            wait_until(f"{name} to answer again", lambda name=name: answers(http, stack.urls[name]))
        with answering(http, stack.url) as stream:
            told.append(text(list(stream)))

    assert told == [whole(script)] * 3
    assert codes == [0, 0]


SLOW: dict[str, dict[str, Any]] = {
    "init": {"load_ms": 600_000},
    "run": {"prefill_tokens_per_s": 0.1},
}


@pytest.mark.parametrize("phase", SLOW)
def test_a_client_that_leaves_before_the_first_token_frees_the_board(
    tmp_path: Path, http: httpx2.Client, phase: str
) -> None:
    """While the model loads, and while it reads the prompt; either would take ten minutes."""
    with emulated(tmp_path, "abi-1.3.0") as stack:
        made(stack, tmp_path, **SLOW[phase])
        with ollama.Client(host=stack.url, trust_env=False) as client:
            create(client, "other", ModelScript(answer_tokens=5), tmp_path)
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
        with left_when(stack.url, body):
            wait_until(f"its {phase}", lambda: _begun(tmp_path / "trace", phase))
        answer = http.post(
            f"{stack.url}/api/generate", json={"model": "other", "prompt": "hi", "stream": False}
        )

    assert answer.json()["eval_count"] == 5


def _begun(trace: Path, event: str) -> bool:
    return any(happened["event"] == event for happened in read_trace(trace))


@contextmanager
def left_when(url: str, body: dict[str, Any]) -> Iterator[None]:
    """A request whose client closes its socket when the block ends."""
    address = httpx2.URL(url)
    assert address.port
    payload = json.dumps(body).encode()
    head = (
        f"POST /api/chat HTTP/1.1\r\nhost: {address.host}\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port)) as sock:
        sock.sendall(head.encode() + payload)
        yield
