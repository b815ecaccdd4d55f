"""Answers as a client gets them: a real gateway, a real broker, a worker that a test plays."""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

import httpx2
import pytest
from rkllama_protocol.codec import Chunk

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import MODEL, Attempt, resident, text

IGNORED = "x-rkllama-ignored-options"
NDJSON = "application/x-ndjson"
ONE = "application/json; charset=utf-8"
EMPTY: dict[str, dict[str, Any]] = {
    "/api/generate": {},
    "/api/chat": {"messages": []},
    "/api/embed": {"input": []},
    "/api/embeddings": {"prompt": ""},
}
"""Requests with nothing to answer, by path."""


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def said(answer: httpx2.Response) -> str:
    return "".join(line["message"]["content"] for line in lines(answer))


def vector(seq: int, *values: float, prompt_tokens: int = 1) -> Chunk:
    packed = base64.b64encode(array("f", values).tobytes()).decode()
    return Chunk(seq=seq, vector=packed, prompt_tokens=prompt_tokens)


# ------------------------------------------------------------------------------ chat


async def test_a_chat_is_streamed_line_by_line(stage: Staged) -> None:
    """Contract 1.3, 1.9."""
    async with stage() as on:
        asked = on.chat("hello")
        attempt = await on.worker.take()
        await attempt.say("a", "b")
        answer = await asked

    assert attempt.job.messages[0].content == "hello"
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)
    assert [line["done"] for line in lines(answer)] == [False, False, True]
    assert said(answer) == "ab"
    assert lines(answer)[-1]["done_reason"] == "stop"


async def test_the_first_piece_does_not_wait_for_the_next(stage: Staged) -> None:
    async with stage() as on:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

        async def begin() -> Attempt:
            attempt = await on.worker.take()
            await attempt.send(text(0, "a"))
            return attempt

        beginning = on.tasks.create_task(begin())
        async with on.client.stream("POST", "/api/chat", json=body) as answer:
            attempt = await beginning
            received = answer.aiter_lines()
            first = json.loads(await anext(received))
            await attempt.send(Chunk(seq=1, finish="stop"))
            rest = [line async for line in received]
        await attempt.finished()

    assert first["message"]["content"] == "a"
    assert len(rest) == 1


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_runtime_ignores_is_said_in_a_header(
    stage: Staged, path: str, *, stream: bool
) -> None:
    """In the order of the alphabet, and only where there is something to say."""
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
    async with stage() as on:
        asked = on.post(path, stream=stream, **fields, options={"seed": 1, "min_p": 0.1})
        attempt = await on.worker.take()
        silent = Chunk(seq=0, ids=(1,), ignored_options=("seed", "min_p"))
        await attempt.send(silent, text(1, "a"), Chunk(seq=2, finish="stop"))
        await attempt.finished()
        answer = await asked

        other = on.post(path, stream=stream, **fields)
        await (await on.worker.take()).say("a")
        plain = await other

    assert attempt.job.asked_options == ("min_p", "seed")
    assert answer.headers[IGNORED] == "min_p, seed"
    assert IGNORED not in plain.headers


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_piece_has_a_status(
    stage: Staged, *, stream: bool
) -> None:
    """Contract 1.3, 2.9."""
    async with stage() as on:
        asked = on.chat(stream=stream)
        attempt = await on.worker.take()
        too_long = "the prompt is longer than the context"
        await attempt.send(Chunk(seq=0, error_code="prompt_too_long", error_message=too_long))
        await attempt.finished()
        answer = await asked

    assert (answer.status_code, answer.json()) == (400, {"error": too_long})


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_is_only_shown_is_one_object(
    stage: Staged, path: str, *, stream: bool
) -> None:
    """Contract 2.7, also for a client that streams, as it is the default."""
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
    async with stage() as on:
        asked = on.post(path, stream=stream, _debug_render_only=True, **fields)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, rendered="<user>hi", finish="stop"))
        await attempt.finished()
        answer = await asked

    assert attempt.job.render_only
    assert (answer.status_code, answer.headers["content-type"]) == (200, ONE)
    shown = answer.json()
    assert shown["_debug_info"] == {"rendered_template": "<user>hi"}
    assert shown["done"] is False
    assert "done_reason" not in shown


async def test_a_configured_origin_may_ask(stage: Staged) -> None:
    """Contract 1.11: OLLAMA_ORIGINS."""
    async with stage(workers=0, origins="https://*.example") as on:
        allowed = await on.client.get("/api/version", headers={"origin": "https://a.example"})
        other = await on.client.get("/api/version", headers={"origin": "https://a.test"})

    assert (allowed.status_code, other.status_code) == (200, 403)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"


async def test_the_servers_context_length_is_the_jobs(stage: Staged) -> None:
    """Contract 1.8."""
    async with stage(context_length=1024) as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.say("a")
        await asked

    assert attempt.job.num_ctx == 1024


async def test_a_failure_after_the_first_piece_is_the_last_line(stage: Staged) -> None:
    """Contract 1.3."""
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        failed = Chunk(seq=1, error_code="runtime_failed", error_message="it broke")
        await attempt.send(text(0, "a"), failed)
        await attempt.finished()
        answer = await asked

    assert answer.status_code == 200
    assert lines(answer)[0]["message"]["content"] == "a"
    assert lines(answer)[1:] == [{"error": "it broke"}]


@pytest.mark.parametrize(
    ("path", "fields", "text_"),
    [
        ("/api/chat", {}, "model 'nope' not found"),
        ("/api/generate", {}, "model 'nope' not found"),
        ("/api/embed", {}, 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", {}, 'model "nope" not found, try pulling it first'),
    ],
)
async def test_an_unknown_model_is_not_found(
    stage: Staged, path: str, fields: Any, text_: str
) -> None:
    """Contract 1.5."""
    async with stage(workers=0) as on:
        answer = await on.client.post(path, json={"model": "nope", **fields})

    assert (answer.status_code, answer.json()) == (404, {"error": text_})


# ------------------------------------------------------------------------------ embed


async def test_texts_are_embedded_in_their_order(stage: Staged) -> None:
    """Contract 2.10."""
    async with stage() as on:
        asked = on.post("/api/embed", input=["a", "b"], dimensions=2)
        attempt = await on.worker.take()
        await attempt.send(
            vector(0, 3, 4, 12, prompt_tokens=2),
            vector(1, 0, 2, 0, prompt_tokens=3),
            Chunk(seq=2, finish="stop"),
        )
        await attempt.finished()
        answer = await asked

    job = attempt.job
    assert (job.kind, job.inputs, job.truncate) == ("embed", ("a", "b"), True)
    assert (answer.status_code, answer.headers["content-type"]) == (200, ONE)
    assert list(answer.json()) == [
        "model", "embeddings", "total_duration", "load_duration", "prompt_eval_count",
    ]  # fmt: skip
    assert answer.json()["embeddings"] == [[0.6, 0.8], [0, 1]]
    assert answer.json()["prompt_eval_count"] == 5
    assert all(isinstance(answer.json()[f"{name}_duration"], int) for name in ("total", "load"))


async def test_the_older_endpoint_gives_the_vector_as_it_is(stage: Staged) -> None:
    """Contract 2.11."""
    async with stage() as on:
        asked = on.post("/api/embeddings", prompt="a")
        attempt = await on.worker.take()
        await attempt.send(vector(0, 3, 0.1), Chunk(seq=1, finish="stop"))
        await attempt.finished()
        answer = await asked

    assert attempt.job.inputs == ("a",)
    assert not attempt.job.truncate
    assert answer.text == '{"embedding":[3,0.10000000149011612]}'


async def test_a_vector_that_is_refused_stops_the_rest(stage: Staged) -> None:
    """Contract 2.10."""
    async with stage() as on:
        asked = on.post("/api/embed", input=["a", "b"])
        attempt = await on.worker.take()
        await attempt.send(vector(0, float("nan")))
        answer = await asked
        cancel = await on.worker.cancels.get()

    assert answer.status_code == 400
    assert answer.json() == {"error": "embedding contains NaN or Inf values"}
    assert cancel.job_id == attempt.job.job_id


# ------------------------------------------------------------------------------ load, unload


@pytest.mark.parametrize("path", EMPTY)
async def test_nothing_to_answer_loads_on_a_board_that_has_not_the_model(
    stage: Staged, path: str
) -> None:
    """Contract 1.9, 2.10."""
    async with stage() as on:
        asked = on.post(path, **EMPTY[path], keep_alive=7)
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, finish="load"))
        await attempt.finished()
        answer = await asked

    assert (attempt.job.kind, attempt.job.keep_alive_s) == ("load", 7.0)
    _check_idle(answer, "load")


@pytest.mark.parametrize("path", EMPTY)
async def test_a_model_that_is_there_only_gets_its_new_keep_alive(stage: Staged, path: str) -> None:
    """Contract 1.7."""
    async with stage(beat={"models": (resident(),)}) as on:
        answer = await on.post(path, **EMPTY[path], keep_alive=7)
        keep = await on.worker.keeps.get()

        assert on.worker.tickets.empty()
    assert (keep.model, keep.keep_alive_s) == (MODEL.digest, 7.0)
    _check_idle(answer, "load")


@pytest.mark.parametrize(
    ("num_ctx", "loads"), [(2048, False), (1024, True), (4096, True), (8192, True)]
)
async def test_another_context_is_another_load(stage: Staged, num_ctx: int, *, loads: bool) -> None:
    """Contract 1.8: the model is loaded with 2048 tokens, and has at most 4096."""
    async with stage(beat={"models": (resident(),)}) as on:
        asked = on.post("/api/generate", options={"num_ctx": num_ctx})
        if loads:
            attempt = await on.worker.take()
            await attempt.send(Chunk(seq=0, finish="load"))
            await attempt.finished()
            assert attempt.job.num_ctx == attempt.ticket.num_ctx == min(num_ctx, 4096)
        answer = await asked

        assert on.worker.keeps.empty() is loads
    _check_idle(answer, "load")


@pytest.mark.parametrize("path", EMPTY)
async def test_unloading_asks_every_board(stage: Staged, path: str) -> None:
    """Contract 1.7: also those that did not have the model when they last said so."""
    async with stage(workers=2) as on:
        answer = await on.post(path, **EMPTY[path], keep_alive=0)
        asked = [await worker.unloads.get() for worker in on.workers]

    assert {unload.model for unload in asked} == {MODEL.digest}
    _check_idle(answer, "unload")


def _check_idle(answer: httpx2.Response, reason: str) -> None:
    """One object, whether or not a stream was asked for."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, ONE)
    body = answer.json()
    if "done_reason" in body:
        assert (body["done"], body["done_reason"]) == (True, reason)
    else:
        assert body in ({"model": "m", "embeddings": []}, {"embedding": []})


async def test_ps_is_the_workers_own_word(stage: Staged) -> None:
    """Contract 2.5: a beat is a second old."""
    async with stage(beat={"models": (resident(name="old"),)}) as on:
        on.worker.status = on.worker.beat.model_copy(update={"models": (resident(name="new"),)})
        answer = await on.client.get("/api/ps")

    assert [model["name"] for model in answer.json()["models"]] == ["new"]


# ------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/api/generate", {"prompt": "hi", "stream": False}),
        ("/api/embed", {"input": ["a", "b"]}),
        ("/api/embeddings", {"prompt": "a"}),
    ],
)
async def test_the_board_is_told_when_the_client_leaves(
    stage: Staged, path: str, fields: Any
) -> None:
    """Contract 1.10."""
    async with stage() as on:
        asked = on.post(path, **fields)
        attempt = await on.worker.take()
        asked.cancel()
        cancel = await on.worker.cancels.get()
        await attempt.unwanted.wait()

        assert (cancel.job_id, cancel.attempt) == (attempt.job.job_id, 1)
        await on.gateway.jobs.idle.wait()


async def test_a_client_that_leaves_while_it_waits_takes_its_offer_back(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        ticket = await on.worker.tickets.get()
        asked.cancel()
        await on.gateway.jobs.idle.wait()
        grant = await on.worker.claim(ticket)

    assert not grant.granted
