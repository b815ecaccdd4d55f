"""What a client sees when something breaks, and that the next request works."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import ollama
from rkllm_bindings.emulator import ModelScript

from tests.emulated import create, emulated
from tests.integration.conftest import MODEL
from tests.stack import Stack, alive, prepared, wait_until

LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a very long story about the sea."}],
    "options": {"num_predict": 3000, "temperature": 1.0},
}
SHORT = LONG | {"options": {"num_predict": 5, "temperature": 0}}


@contextmanager
def started(http: httpx2.Client, stack: Stack) -> Iterator[Iterator[str]]:
    """A long answer of which the first line has come; its further lines."""
    with http.stream("POST", f"{stack.url}/api/chat", json=LONG) as answer:
        lines = answer.iter_lines()
        assert "error" not in json.loads(next(lines))
        yield lines


def works(http: httpx2.Client, stack: Stack) -> bool:
    """Whether a short request is answered."""
    answer = http.post(f"{stack.url}/api/chat", json=SHORT | {"stream": False})
    return answer.status_code == 200 and answer.json()["eval_count"] == 5


def test_an_answer_goes_on_after_its_engine_was_killed(
    own_stack: Stack, http: httpx2.Client
) -> None:
    with started(http, own_stack) as lines:
        (engine,) = own_stack.engines()
        os.kill(engine, signal.SIGKILL)
        for _ in range(20):
            assert "error" not in json.loads(next(lines))

    assert works(http, own_stack)
    assert own_stack.engines() != [engine]


def test_a_killed_worker_takes_its_engine_with_it_and_its_successor_goes_on(
    own_stack: Stack, http: httpx2.Client
) -> None:
    with started(http, own_stack) as lines:
        (engine,) = own_stack.engines()
        own_stack.kill("worker-1")
        wait_until("the engine's end", lambda: not alive(engine))
        own_stack.start_worker(1)
        for _ in range(20):
            assert "error" not in json.loads(next(lines))

    assert works(http, own_stack)


def test_a_client_that_leaves_stops_its_run(stack: Stack, http: httpx2.Client) -> None:
    before = stack.runs(outcome="aborted")
    with started(http, stack):
        pass

    wait_until("the engine to report the abort", lambda: stack.runs(outcome="aborted") > before)
    assert works(http, stack)


def test_a_client_that_leaves_while_it_waits_is_never_run(tmp_path: Path) -> None:
    """It waits behind an answer that never ends by itself."""
    endless = {"model": "endless", "prompt": "hello", "raw": True}
    body = json.dumps(endless).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with emulated(tmp_path, "abi-1.3.0") as stack, httpx2.Client(trust_env=False) as http:
        with ollama.Client(host=stack.url, trust_env=False) as client:
            script = ModelScript(answer_tokens=100_000, decode_tokens_per_s=50)
            create(client, "endless", script, tmp_path)
        with http.stream("POST", f"{stack.url}/api/generate", json=endless) as answer:
            lines = answer.iter_lines()
            assert "error" not in json.loads(next(lines))
            before = stack.runs()
            url = httpx2.URL(stack.url)
            with socket.create_connection((url.host, url.port)) as impatient:
                impatient.sendall(head.encode() + body)
                wait_until("it to wait", lambda: stack.queued() == 1)
            wait_until("the offer to be withdrawn", lambda: stack.queued() == 0)

        wait_until("the first run to end", lambda: stack.runs() == before + 1)
        short = endless | {"stream": False, "options": {"num_predict": 5}}
        assert http.post(f"{stack.url}/api/generate", json=short).json()["eval_count"] == 5
        assert stack.runs() == before + 2


def test_a_broker_that_restarts_costs_a_stream_nothing(
    own_stack: Stack, http: httpx2.Client
) -> None:
    with started(http, own_stack) as lines:
        own_stack.broker.kill()
        own_stack.broker.start()
        wait_until(
            "the gateway to be ready again",
            lambda: http.get(f"{own_stack.url}/readyz").status_code == 200,
        )
        for _ in range(20):
            assert "error" not in json.loads(next(lines))

    assert works(http, own_stack)


def test_readiness_falls_with_the_broker_and_liveness_does_not(
    own_stack: Stack, http: httpx2.Client
) -> None:
    own_stack.broker.kill()

    wait_until("readiness to fall", lambda: http.get(f"{own_stack.url}/readyz").status_code == 503)
    assert http.get(f"{own_stack.url}/livez").status_code == 200


def test_a_worker_that_is_told_to_stop_finishes_its_run(
    own_stack: Stack, http: httpx2.Client
) -> None:
    body = LONG | {"options": {"num_predict": 60}}
    with http.stream("POST", f"{own_stack.url}/api/chat", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        engines = own_stack.engines()
        code = own_stack.terminate("worker-1")
        last = json.loads(list(lines)[-1])

    assert code == 0
    assert last["done"] is True
    assert not any(alive(engine) for engine in engines)


def test_a_request_without_any_worker_is_refused_in_a_sentence(
    models: Path, tmp_path: Path, http: httpx2.Client
) -> None:
    with Stack(
        prepared(models, tmp_path), workers=0, env={"RKLLAMA_GATEWAY_NO_WORKER_S": "1"}
    ) as empty:
        answer = http.post(f"{empty.url}/api/chat", json=SHORT)

    assert answer.status_code == 503
    assert "no worker is connected" in answer.json()["error"]
