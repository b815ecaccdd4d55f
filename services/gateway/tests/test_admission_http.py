"""Places in the queue over HTTP: headers, bounds of a key, deadlines, classes, `/api/ps`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rkllama_gateway.auth import Guard
from rkllama_protocol.messages import RunningJob, Speed, Ticket
from rkllama_protocol.subjects import JobClass
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import MODEL, Stage, resident
from services.gateway.tests.test_jobs_http import BUSY

SPEED = Speed(
    model=MODEL.digest, prefill_s_per_token=1.0, decode_s_per_token=1.0, tokens_per_answer=10.0
)
WARM: dict[str, Any] = {"models": (resident(),), "speeds": (SPEED,)}
"""Reads a token a second, and answers with ten in ten seconds."""
HELD: dict[str, Any] = WARM | {
    "running": RunningJob(job_id="x", model=MODEL.digest, left_s=6.0, overdue_s=6.0)
}

Bearers = Callable[[str], dict[str, str]]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Guard, Bearers]:
    """Two keys, `bob` and `eve`; and the header that shows one."""
    path = tmp_path / "keys.json"
    now = datetime(2026, 1, 2, tzinfo=UTC)
    texts = {name: key_file.create(path, name, Scope.INFER, now=now) for name in ("bob", "eve")}
    return Guard(Auth.ALL, path), lambda name: {"authorization": f"Bearer {texts[name]}"}


def chat(on: Stage, **headers: str) -> asyncio.Task[httpx2.Response]:
    """A prompt of one token."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return on.tasks.create_task(on.client.post("/api/chat", json=body, headers=named))


async def waits(on: Stage) -> Ticket:
    """The next request that boards hear of."""
    return await on.worker.tickets.get()


async def test_an_answer_says_where_its_request_stood(stage: Staged) -> None:
    """The board is free in 6 s; the first has 1 + 10 s of it, and the second its own token."""
    async with stage(beat=HELD) as on:
        first = chat(on)
        first_ticket = await waits(on)
        second = chat(on)
        second_ticket = await waits(on)
        for ticket in (first_ticket, second_ticket):
            on.worker.tickets.put_nowait(ticket)
            await (await on.worker.take()).say("a")
        answers = [await first, await second]

    assert [answer.headers["x-rkllama-queue-position"] for answer in answers] == ["0", "1"]
    assert [answer.headers["x-rkllama-predicted-wait"] for answer in answers] == ["7.0", "18.0"]


async def test_nothing_is_predicted_where_no_board_is(stage: Staged) -> None:
    async with stage(workers=0, no_worker_s=0.01) as on:
        answer = await chat(on)

    assert answer.headers["x-rkllama-queue-position"] == "0"
    assert "x-rkllama-predicted-wait" not in answer.headers


async def test_who_is_refused_is_told_when_a_place_is_free(stage: Staged) -> None:
    async with stage(beat=HELD, max_waiting=1) as on:
        first = chat(on)
        await waits(on)
        refused = await chat(on)
        first.cancel()

    assert (refused.status_code, refused.json()) == (503, {"error": BUSY})
    assert refused.headers["retry-after"] == "6"


async def test_classes_have_places_of_their_own_and_boards_hear_of_them(stage: Staged) -> None:
    async with stage(beat=HELD, max_waiting=1) as on:
        people, batch = chat(on), chat(on, x_rkllama_class="batch")
        heard = {(await waits(on)).job_class for _ in range(2)}
        refused = await chat(on, x_rkllama_class="batch")
        people.cancel()
        batch.cancel()

    assert heard == {JobClass.INTERACTIVE, JobClass.BATCH}
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "17"


async def test_a_class_that_is_none_is_refused(stage: Staged) -> None:
    async with stage() as on:
        answer = await chat(on, x_rkllama_class="urgent")

    assert answer.status_code == 400
    assert answer.json() == {"error": "X-Rkllama-Class must be interactive or batch"}


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(stage: Staged) -> None:
    async with stage(beat=HELD) as on:
        answer = await chat(on, x_rkllama_deadline="2")

    assert answer.status_code == 503
    assert answer.json()["error"].startswith("the answer is predicted to begin in 7 s")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("headers", "settings"), [({"x_rkllama_deadline": "0.01"}, {}), ({}, {"max_wait_s": 0.01})]
)
async def test_a_request_that_no_board_takes_in_time_ends(
    stage: Staged, headers: dict[str, str], settings: dict[str, Any]
) -> None:
    """The board would be fast enough by its own word, and does not claim."""
    speed = SPEED.model_copy(update={"prefill_s_per_token": 0.0})
    async with stage(beat=WARM | {"speeds": (speed,)}, **settings) as on:
        answer = await chat(on, **headers)
        after = await chat(on, x_rkllama_deadline="0.01")

    for told in (answer, after):
        assert told.status_code == 503
        assert told.json() == {"error": "no worker was free before the request's deadline"}


async def test_a_key_may_have_so_many_waiting(stage: Staged, keys: tuple[Guard, Bearers]) -> None:
    guard, bearer = keys
    async with stage(guard=guard, beat=HELD, max_waiting_per_key=1) as on:
        bob = chat(on, **bearer("bob"))
        await waits(on)
        refused = await chat(on, **bearer("bob"))
        eve = chat(on, **bearer("eve"))
        await waits(on)
        bob.cancel()
        eve.cancel()

    assert (refused.status_code, refused.json()) == (503, {"error": BUSY})


async def test_a_key_may_have_so_many_with_boards_and_the_next_one_follows(
    stage: Staged, keys: tuple[Guard, Bearers]
) -> None:
    """Bob's second request is not offered until his first one has ended; Eve's is."""
    guard, bearer = keys
    async with stage(guard=guard, max_running_per_key=1) as on:
        first = chat(on, **bearer("bob"))
        attempt = await on.worker.take()
        second = chat(on, **bearer("bob"))
        while "queue" not in (await on.client.get("/api/ps", headers=bearer("eve"))).json():
            continue
        eve = chat(on, **bearer("eve"))
        others = await on.worker.take()
        held_back = [held.offered for held in on.gateway.jobs.held()]
        await others.say("e")
        await attempt.say("a")
        await (await on.worker.take()).say("b")
        answers = [await first, await second, await eve]

    assert held_back == [True, False, True]
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_what_waits_is_told_beside_the_loaded_models(stage: Staged) -> None:
    async with stage(beat=HELD) as on:
        before = (await on.client.get("/api/ps")).json()
        tasks = [chat(on), chat(on), chat(on, x_rkllama_class="batch")]
        for _ in tasks:
            await waits(on)
        during = (await on.client.get("/api/ps")).json()
        for task in tasks:
            task.cancel()

    assert before.keys() == {"models"}
    assert during["queue"] == [
        {"model": "m:latest", "class": "batch", "waiting": 1, "predicted_wait": 29.0},
        {"model": "m:latest", "class": "interactive", "waiting": 2, "predicted_wait": 18.0},
    ]
