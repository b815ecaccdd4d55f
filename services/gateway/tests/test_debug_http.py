"""`/api/debug`: there only in debug mode, and without a word of what people asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rkllama_gateway.recent import MOST
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import RunningJob

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage, resident, text

PROMPT = "a prompt that is nobody's business"


async def _debug(on: Stage) -> dict[str, Any]:
    answer = await on.client.get("/api/debug")
    assert answer.status_code == 200
    assert PROMPT not in answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_without_debug_it_is_no_path(stage: Staged) -> None:
    async with stage(workers=0) as on:
        unknown, debug = await on.client.get("/nope"), await on.client.get("/api/debug")

    assert (debug.status_code, debug.text) == (404, "404 page not found")
    assert {**debug.headers, "date": ""} == {**unknown.headers, "date": ""}


async def test_it_shows_the_queue_while_a_request_waits_and_runs(stage: Staged) -> None:
    async with stage(debug=True) as on:
        asked = on.chat(PROMPT)
        ticket = await on.worker.tickets.get()
        (waiting,) = (await _debug(on))["queue"]
        on.worker.tickets.put_nowait(ticket)
        attempt = await on.worker.take()
        (running,) = (await _debug(on))["queue"]
        await attempt.say("hello")
        await asked
        after = (await _debug(on))["queue"]

    assert (waiting["state"], waiting["model"], waiting["kind"]) == ("waiting", "m:latest", "chat")
    assert (running["state"], running["worker_id"]) == ("running", "w0")
    assert waiting["job_id"] == running["job_id"] == attempt.ticket.job_id
    assert after == []


async def test_it_shows_what_each_worker_says_now(stage: Staged) -> None:
    async with stage(workers=2, debug=True) as on:
        on.workers[1].status = on.workers[1].beat.model_copy(
            update={
                "models": (resident(state="loading"),),
                "running": RunningJob(job_id="j", model=resident().digest, left_s=1.5),
            }
        )
        told = await _debug(on)

    workers = {worker["worker_id"]: worker for worker in told["workers"]}
    assert workers["w0"]["engines"] == []
    assert [engine["state"] for engine in workers["w1"]["engines"]] == ["loading"]
    assert workers["w1"]["running"]["left_s"] == 1.5
    assert told["silent_workers"] == []
    assert [store["ready"] for store in told["stores"]] == [True]
    assert told["gateway"]["gateway_id"] == on.gateway.gateway_id


async def test_a_request_leaves_how_it_went(stage: Staged) -> None:
    async with stage(debug=True) as on:
        asked = on.chat(PROMPT)
        attempt = await on.worker.take()
        await attempt.send(text(0, "a", prompt_tokens=7, prefill_ns=2_000_000_000))
        await attempt.send(
            Chunk(seq=1, ids=(5,), finish="stop", prefill_ns=2_000_000_000, decode_ns=500_000_000)
        )
        await attempt.finished()
        await asked
        note = (await _debug(on))["requests"][0]

    assert (note["endpoint"], note["status"], note["outcome"]) == ("POST /api/chat", 200, "ok")
    assert (note["model"], note["job_id"]) == ("m:latest", attempt.ticket.job_id)
    assert (note["prompt_tokens"], note["tokens"], note["attempt"]) == (7, 2, 1)
    assert (note["prefill_s"], note["decode_s"]) == (2.0, 0.5)
    assert 0 < note["first_chunk_s"] <= note["duration_s"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_is_told_as_one_whatever_its_status(stage: Staged, *, stream: bool) -> None:
    async with stage(debug=True) as on:
        asked = on.chat(PROMPT, stream=stream)
        attempt = await on.worker.take()
        await attempt.send(text(0, "a"))
        await attempt.send(Chunk(seq=1, error_code="runtime_failed", error_message="broken"))
        await attempt.finished()
        await asked
        note = (await _debug(on))["requests"][0]

    assert (note["status"], note["outcome"]) == (200 if stream else 500, "error")


async def test_a_client_that_left_is_told_as_one(stage: Staged) -> None:
    async with stage(debug=True) as on:
        asked = on.chat(PROMPT)
        attempt = await on.worker.take()
        asked.cancel()
        await attempt.unwanted.wait()
        await on.gateway.jobs.idle.wait()
        notes: list[dict[str, Any]] = []
        while not notes:
            notes = [n for n in (await _debug(on))["requests"] if "chat" in n["endpoint"]]

    assert (notes[0]["status"], notes[0]["outcome"]) == (0, "client_cancel")


async def test_refusals_and_unknown_paths_are_remembered_too(stage: Staged) -> None:
    async with stage(workers=0, debug=True) as on:
        await on.client.post("/api/show", content=b"{")
        await on.client.get("/" + "x" * 1000)
        notes = (await _debug(on))["requests"]

    assert [(note["status"], note["outcome"]) for note in notes] == [
        (404, "refused"),
        (400, "refused"),
    ]
    assert len(notes[0]["endpoint"]) < 300


async def test_only_the_last_requests_are_remembered_and_no_probes(stage: Staged) -> None:
    async with stage(workers=0, debug=True) as on:
        await asyncio.gather(*(on.client.get("/api/version") for _ in range(MOST + 1)))
        await on.client.get("/metrics")
        notes = (await _debug(on))["requests"]

    assert [note["endpoint"] for note in notes] == ["GET /api/version"] * MOST
