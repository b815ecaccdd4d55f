"""What the gateway tells Prometheus of requests, the queue and the boards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rkllama_gateway.auth import Guard
from rkllama_gateway.boards import REMEMBERED_S, Roll
from rkllama_gateway.metrics import REASONS, outcome
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import BY_CODE
from rkllama_protocol.messages import ModelChanged, RunningJob, Speed, WorkerBeat
from rkllama_protocol.subjects import ModelEvent
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import MODEL, Stage, resident, text

NAME = MODEL.name
SECOND_NS = 1_000_000_000

Figures = Callable[..., float]


async def scrape(on: Stage) -> Figures:
    """`of(name, label=value)`: the sum of the series with these labels; an error if there is none."""
    said = (await on.client.get("/metrics")).text
    samples = [s for family in text_string_to_metric_families(said) for s in family.samples]

    def of(name: str, **labels: str) -> float:
        found = [s for s in samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"{name} {labels}"
        return sum(sample.value for sample in found)

    return of


async def models(on: Stage) -> set[str]:
    """Every value that the label `model` has."""
    said = (await on.client.get("/metrics")).text
    samples = [s for family in text_string_to_metric_families(said) for s in family.samples]
    return {sample.labels["model"] for sample in samples if "model" in sample.labels}


async def answered(on: Stage, **facts: Any) -> None:
    asked = on.chat()
    attempt = await on.worker.take()
    await attempt.send(
        text(0, "a", prompt_tokens=7, prefill_ns=2 * SECOND_NS),
        text(1, "b", prefill_ns=2 * SECOND_NS, decode_ns=SECOND_NS),
        Chunk(
            seq=2, ids=(9,), finish="stop", reused_tokens=3, prefill_ns=2 * SECOND_NS,
            decode_ns=3 * SECOND_NS, **facts,
        ),
    )  # fmt: skip
    await attempt.finished()
    await asked


# ------------------------------------------------------------------ answers


async def test_an_answer_is_counted_by_its_tokens_and_times(stage: Staged) -> None:
    async with stage() as on:
        await answered(on)
        of = await scrape(on)

    assert of("rkllama_requests_total", model=NAME, outcome="ok") == 1
    tokens = {kind: of("rkllama_tokens_total", model=NAME, type=kind) for kind in
              ("input", "reused", "output")}  # fmt: skip
    assert tokens == {"input": 7, "reused": 3, "output": 3}
    for name in ("time_to_first_token", "time_per_output_token", "request_duration"):
        assert of(f"gen_ai_server_{name}_seconds_count", model=NAME) == 1, name
    assert of("rkllama_prefill_seconds_sum", model=NAME) == 2
    assert of("rkllama_npu_seconds_total", key="", **{"class": "interactive"}) == 5
    assert of("rkllama_queue_wait_seconds_count", model=NAME, **{"class": "interactive"}) == 1


@pytest.mark.parametrize(
    ("code", "told"), [("runtime_failed", "runtime_failed"), ("novel", "internal")]
)
async def test_a_failure_has_its_code_if_that_is_a_known_one(
    stage: Staged, code: str, told: str
) -> None:
    """A newer board's codes are no labels, or there would be as many as it likes."""
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await attempt.send(Chunk(seq=0, error_code=code, error_message="no"))
        await attempt.finished()
        await asked
        of = await scrape(on)

    duration = "gen_ai_server_request_duration_seconds_count"
    assert of("rkllama_requests_total", model=NAME, outcome="error") == 1
    assert of(duration, error_type=told) == of(duration) == 1


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("", "ok"),
        ("cancelled", "client_cancel"),
        ("overloaded", "shed"),
        ("expired", "deadline"),
        ("prompt_too_long", "refused"),
        ("unsupported", "refused"),
        ("engine_died", "error"),
        ("no_worker", "error"),
        ("novel", "error"),
    ],
)
def test_how_a_request_ended(code: str, how: str) -> None:
    assert outcome(code) == how


def test_every_code_is_one_of_six_outcomes() -> None:
    assert {outcome(code) for code in ("", *BY_CODE)} == {
        "ok", "client_cancel", "shed", "deadline", "refused", "error",
    }  # fmt: skip


async def test_a_client_that_leaves_is_no_error(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        asked.cancel()
        await attempt.unwanted.wait()
        await on.gateway.jobs.idle.wait()
        of = await scrape(on)

    assert of("rkllama_requests_total", model=NAME) == 1
    assert of("rkllama_requests_total", model=NAME, outcome="client_cancel") == 1


# ------------------------------------------------------------------ the queue


async def test_the_queue_is_told_by_class_and_returns_to_zero(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        batch = on.tasks.create_task(
            on.client.post(
                "/api/chat",
                json={"model": "m", "messages": [{"role": "user", "content": "later"}]},
                headers={"x-rkllama-class": "batch"},
            )
        )
        tickets = [await on.worker.tickets.get() for _ in range(2)]
        waiting = await scrape(on)
        for ticket in tickets:
            on.worker.tickets.put_nowait(ticket)
        attempts = [await on.worker.take() for _ in tickets]
        running = await scrape(on)
        for attempt in attempts:
            await attempt.say("done")
        await asked
        await batch
        over = await scrape(on)

    depth, run = "rkllama_queue_depth", "rkllama_requests_running"
    both = ("interactive", "batch")
    assert [waiting(depth, model=NAME, **{"class": each}) for each in both] == [1, 1]
    assert waiting("rkllama_queue_oldest_age_seconds", model=NAME) > 0
    assert (running(depth), running(run)) == (0, 2)
    gauges = (depth, run, "rkllama_queue_oldest_age_seconds")
    assert [over(name) for name in gauges] == [0, 0, 0]
    assert over("rkllama_queue_predicted_wait_seconds") == 0


async def test_the_predicted_wait_is_infinite_where_no_board_can_run_the_model(
    stage: Staged,
) -> None:
    async with stage(beat={"runtimes": ("rkllm",)}) as on:
        asked = on.chat()
        await on.worker.tickets.get()
        of = await scrape(on)
        asked.cancel()

    assert of("rkllama_queue_predicted_wait_seconds") == float("inf")


# ------------------------------------------------------------------ refusals


async def test_each_way_to_be_turned_away_is_counted(stage: Staged, tmp_path: Path) -> None:
    key = key_file.create(
        tmp_path / "k.json", "bob", Scope.INFER, now=datetime(2026, 1, 2, tzinfo=UTC)
    )
    speed = Speed(
        model=MODEL.digest, prefill_s_per_token=1.0, decode_s_per_token=1.0, tokens_per_answer=10.0
    )
    busy = RunningJob(job_id="x", model=MODEL.digest, left_s=60.0)
    async with stage(
        guard=Guard(Auth.ALL, tmp_path / "k.json"),
        beat={"models": (resident(),), "speeds": (speed,), "running": busy},
        max_waiting=1,
        max_body_bytes=100_000,
        rate_per_minute=0.001,
        max_bodies_bytes=1,
        rate_burst=5,
    ) as on:
        before = await on.client.get("/metrics")
        on.client.headers["authorization"] = f"Bearer {key}"
        quiet = await scrape(on)
        on.client.headers["x-rkllama-deadline"] = "1"
        await on.chat()
        del on.client.headers["x-rkllama-deadline"]
        waits = on.chat("x" * 70_000)
        await on.worker.tickets.get()
        await on.chat()
        await on.chat("x" * 200_000)
        # What waits has not been let go.
        await on.chat("x" * 90_000)
        await on.chat()
        of = await scrape(on)
        waits.cancel()

    assert before.status_code == 401
    rejected = "rkllama_rejected_total"
    assert {reason: of(rejected, reason=reason) for reason in REASONS} == dict.fromkeys(REASONS, 1)
    assert quiet(rejected, reason="queue_full") == 0
    assert of("rkllama_requests_total", model=NAME, outcome="deadline") == 1
    assert of("rkllama_requests_total", model=NAME, outcome="shed") == 1


async def test_models_that_the_store_does_not_know_are_one(stage: Staged) -> None:
    async with stage() as on:
        for name in ("nope", "nope2", "hf.co/a/secret-name"):
            await on.client.post("/api/chat", json={"model": name})
            await on.client.post("/v1/messages", json={"model": name})
        found = await models(on)
        of = await scrape(on)

    assert found == {"_unknown"}
    assert of("rkllama_requests_total", model="_unknown", outcome="refused") >= 3


# ------------------------------------------------------------------ boards


async def test_a_conversation_that_another_board_took_was_forced(stage: Staged) -> None:
    async with stage(workers=2) as on:
        asked = on.chat("a question of some length")
        ticket = await on.workers[0].tickets.get()
        on.workers[0].beat = on.workers[0].beat.model_copy(
            update={"models": (resident(holds=(ticket.chain[0].hash,)),)}
        )
        await on.workers[0].publish_beat()
        await on.workers[0].bus.flush()
        attempt = await on.workers[1].take()
        await attempt.say("hello")
        await asked
        of = await scrape(on)

    assert of("rkllama_affinity_total") == of("rkllama_affinity_total", result="forced") == 1


async def test_an_attempt_that_was_lost_is_counted_when_it_is(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        first = await on.worker.take()
        await first.send(text(0, "a"))
        await first.finished("released")
        second = await on.worker.take()
        of = await scrape(on)
        await second.say("b")
        await asked

    lost = {"phase": "mid_stream", "reason": "released", "result": "continued"}
    assert of("rkllama_migrations_total", model=NAME, **lost) == 1
    assert of("rkllama_migrations_total") == 1


def beat(worker_id: str, *, draining: bool = False) -> WorkerBeat:
    return WorkerBeat(worker_id=worker_id, ready=True, draining=draining)


def test_a_board_that_fell_silent_is_said_to_be_so_for_a_while() -> None:
    now = [0.0]
    roll = Roll(clock=lambda: now[0])
    roll.note(beat("a"))
    roll.note(beat("b"))
    now[0] = REMEMBERED_S
    roll.note(beat("b"))
    silent = roll.call(["b"])
    now[0] += 1

    assert silent == [("a", False), ("b", True)]
    assert roll.call(["b"]) == [("b", True)]


def test_a_board_that_was_drained_is_not_missed_and_one_that_comes_back_is_up() -> None:
    roll = Roll(clock=lambda: 0.0)
    roll.note(beat("a"))
    roll.note(beat("a", draining=True))
    drained = roll.call([])
    roll.note(beat("a"))

    assert drained == []
    assert roll.call(["a"]) == [("a", True)]


# ------------------------------------------------------------------ what does not stay


async def deleted(on: Stage) -> None:
    """The store deletes its model, and says so."""
    on.store.listed = ()
    changed = ModelChanged(name=NAME, full_name=MODEL.full_name)
    await on.store.bus.say(on.store.subjects.event(ModelEvent.DELETED), changed)


async def test_the_series_of_a_deleted_model_go(stage: Staged) -> None:
    async with stage() as on:
        await answered(on)
        before = await models(on)
        await deleted(on)
        while NAME in await models(on):
            continue

    assert before == {NAME, "_unknown"}


async def test_what_runs_of_a_deleted_model_brings_its_name_not_back(stage: Staged) -> None:
    async with stage() as on:
        asked = on.chat()
        attempt = await on.worker.take()
        await deleted(on)
        while NAME in await models(on):
            continue
        await attempt.say("hello")
        await asked
        of, found = await scrape(on), await models(on)

    assert of("rkllama_requests_total", model="_unknown", outcome="ok") == 1
    assert found == {"_unknown"}


async def test_a_model_that_was_made_again_has_its_name_again(stage: Staged) -> None:
    async with stage() as on:
        await answered(on)
        await deleted(on)
        while NAME in await models(on):
            continue
        await answered(on)
        of = await scrape(on)

    assert of("rkllama_requests_total", model=NAME, outcome="ok") == 1
