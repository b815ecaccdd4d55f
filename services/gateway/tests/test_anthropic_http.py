"""Anthropic's endpoints over a socket: a real gateway and broker, a worker that a test plays."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rkllama_gateway.auth import Guard
from rkllama_protocol.codec import Chunk
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage, text

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HI = [{"role": "user", "content": "hi"}]
SSE = "text/event-stream"
ONE = "application/json"
REJECTED = "application/json; charset=utf-8"


def ask(on: Stage, path: str = MESSAGES, **fields: Any) -> asyncio.Task[httpx2.Response]:
    return on.post(path, **{"messages": HI, "max_tokens": 9, **fields})


def names(answer: httpx2.Response) -> list[str]:
    lines = answer.text.splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


def error(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, type and text; the id is the same in the header."""
    body = answer.json()
    assert body["type"] == "error"
    assert body["request_id"].startswith("req_")
    assert len(body["request_id"]) == 28
    if answer.status_code not in (401, 403):
        assert answer.headers["request-id"] == body["request_id"]
    return answer.status_code, body["error"]["type"], body["error"]["message"]


async def test_a_message_is_one_object_unless_a_stream_is_asked_for(stage: Staged) -> None:
    """Contract 1.3, 1.9."""
    async with stage() as on:
        asked = ask(on, system="Be brief.")
        attempt = await on.worker.take()
        await attempt.say("a", "b")
        answer = await asked

    assert [message.content for message in attempt.job.messages] == ["Be brief.", "hi"]
    assert (answer.status_code, answer.headers["content-type"]) == (200, ONE)
    assert answer.text.endswith("}\n")
    body = answer.json()
    assert body["content"] == [{"type": "text", "text": "ab"}]
    assert (body["model"], body["stop_reason"]) == ("m", "end_turn")
    assert len(body["id"]) == len("msg_") + 24
    assert answer.headers["request-id"].startswith("req_")


async def test_a_stream_is_events_as_they_come(stage: Staged) -> None:
    async with stage() as on:
        body = {"model": "m", "messages": HI, "max_tokens": 9, "stream": True}
        taking = on.tasks.create_task(on.worker.take())
        request = on.client.build_request("POST", MESSAGES, json=body)
        sending = on.tasks.create_task(on.client.send(request, stream=True))
        attempt = await taking
        await attempt.send(text(0, "a", prompt_tokens=5))
        answer = await sending
        received = answer.aiter_lines()
        first = [await anext(received) for _ in range(12)]
        await attempt.send(Chunk(seq=1, finish="stop"))
        rest = [line async for line in received]
        await answer.aclose()
        await attempt.finished()

    assert answer.headers["content-type"] == SSE
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["request-id"].startswith("req_")
    assert [line for line in first if line.startswith("event")] == [
        "event: message_start",
        "event: ping",
        "event: content_block_start",
        "event: content_block_delta",
    ]
    assert json.loads(first[1].removeprefix("data: "))["message"]["usage"]["input_tokens"] == 5
    assert rest[-3:] == ["event: message_stop", 'data: {"type":"message_stop"}', ""]


async def test_what_the_runtime_ignores_is_said_in_a_header(stage: Staged) -> None:
    async with stage() as on:
        asked = ask(on, top_k=3, stream=True)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, ids=(1,), ignored_options=("top_k",)))
        await attempt.send(Chunk(seq=1, finish="stop"))
        await attempt.finished()
        answer = await asked

    assert answer.headers["x-rkllama-ignored-options"] == "top_k"


async def test_counting_asks_a_board_to_render(stage: Staged) -> None:
    async with stage() as on:
        asked = ask(on, COUNT)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, rendered="<user>hi", prompt_tokens=7, finish="stop"))
        await attempt.finished()
        answer = await asked
        figures = (await on.client.get("/metrics")).text

    assert attempt.job.render_only
    assert (answer.status_code, answer.text) == (200, '{"input_tokens":7}\n')
    # Nothing was read by a model.
    assert 'rkllama_tokens_total{model="m:latest",type="input"}' not in figures


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize(
    ("body", "expected", "content_type"),
    [
        (b"", (400, "invalid_request_error", "EOF"), REJECTED),
        (b"{", (400, "invalid_request_error", "unexpected EOF"), REJECTED),
        (b'{"max_tokens":1}', (400, "invalid_request_error", "model is required"), REJECTED),
        (
            b'{"model":"no","max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
            (404, "not_found_error", "model 'no' not found"),
            ONE,
        ),
        (
            b'{"model":"m","max_tokens":1,"messages":[{"content":"x","role":"user"}],"tools":[{"name":"f"}]}',
            (
                400,
                "invalid_request_error",
                "registry.ollama.ai/library/m:latest does not support tools",
            ),
            ONE,
        ),
    ],
)
async def test_what_is_wrong_is_said_in_the_dialect(
    stage: Staged, path: str, body: bytes, expected: tuple[int, str, str], content_type: str
) -> None:
    """Contract 1.2, 1.3, 1.5."""
    async with stage() as on:
        answer = await on.client.post(path, content=body)

    assert error(answer) == expected
    assert answer.headers["content-type"] == content_type


async def test_a_body_that_is_too_large_is_refused(stage: Staged) -> None:
    async with stage(max_body_bytes=100) as on:
        answer = await ask(on, system="x" * 100)

    assert error(answer) == (413, "request_too_large", "request body too large")
    assert answer.headers["connection"] == "close"


async def test_a_full_queue_is_overloaded(stage: Staged) -> None:
    async with stage(max_waiting=1) as on:
        first = ask(on)
        await on.worker.tickets.get()
        answer = await ask(on)
        first.cancel()

    busy = "server busy, please try again.  maximum pending requests exceeded"
    assert error(answer) == (503, "overloaded_error", busy)
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_event_has_a_status(
    stage: Staged, *, stream: bool
) -> None:
    async with stage() as on:
        asked = ask(on, stream=stream)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, error_code="prompt_too_long", error_message="too long"))
        await attempt.finished()
        answer = await asked

    assert error(answer) == (400, "invalid_request_error", "too long")
    assert answer.headers["content-type"] == ONE


async def test_a_failure_after_it_is_an_event(stage: Staged) -> None:
    async with stage() as on:
        asked = ask(on, stream=True)
        attempt = await on.worker.take()
        broke = Chunk(seq=1, error_code="runtime_failed", error_message="it broke")
        await attempt.send(text(0, "a"), broke)
        await attempt.finished()
        answer = await asked

    assert answer.status_code == 200
    assert names(answer)[-2:] == ["content_block_delta", "error"]
    told = json.loads(answer.text.rsplit("data: ", 1)[1])
    assert told["error"] == {"type": "api_error", "message": "it broke"}
    assert told["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_its_run(stage: Staged, *, stream: bool) -> None:
    async with stage() as on:
        asked = ask(on, stream=stream)
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"))
        asked.cancel()
        cancel = await on.worker.cancels.get()
        await attempt.unwanted.wait()

    assert cancel.job_id == attempt.job.job_id


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
async def test_keys_are_shown_as_x_api_key_or_as_bearer(
    stage: Staged, tmp_path: Path, path: str
) -> None:
    file = tmp_path / "keys.json"
    key = key_file.create(file, "bob", Scope.INFER, now=datetime(2026, 1, 2, tzinfo=UTC))
    async with stage(guard=Guard(Auth.ALL, file)) as on:
        answers = [
            await on.client.post(path, json={}, headers=headers)
            for headers in (
                {},
                {"x-api-key": "k"},
                {"x-api-key": key},
                {"authorization": f"Bearer {key}"},
            )
        ]

    assert [error(answer)[:2] for answer in answers] == [
        (401, "authentication_error"),
        (401, "authentication_error"),
        (400, "invalid_request_error"),
        (400, "invalid_request_error"),
    ]


async def test_other_methods_are_not_allowed(stage: Staged) -> None:
    """Contract 1.1."""
    async with stage(workers=0) as on:
        answers = [await on.client.get(path) for path in (MESSAGES, COUNT)]

    assert [(a.status_code, a.text, a.headers["allow"]) for a in answers] == [
        (405, "405 method not allowed", "POST")
    ] * 2
