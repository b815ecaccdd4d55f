"""The rule by which boards claim, as tables."""

from __future__ import annotations

import math

import pytest
from rkllama_policy.claims import Choice, Offer, choose, patience_s
from rkllama_policy.cost import cost_s, refusal
from rkllama_policy.eviction import to_evict
from rkllama_protocol.messages import (
    ModelDetails,
    ResidentModel,
    RunningJob,
    Speed,
    Ticket,
    WorkerBeat,
)
from rkllama_protocol.subjects import JobClass

A, B = (f"sha256:{letter * 64}" for letter in "ab")


def ticket(job_id: str = "j", model: str = A, **changes: object) -> Ticket:
    values = {
        "job_id": job_id,
        "attempt": 1,
        "job_class": JobClass.INTERACTIVE,
        "model": model,
        "model_format": "gguf",
        "weights_bytes": 1_000_000_000,
        "age_s": 0.0,
        "order": 0,
        "prompt_tokens": 100,
        "gateway_id": "g",
    }
    return Ticket.model_validate(values | changes)


def resident(digest: str = A, **changes: object) -> ResidentModel:
    values = {
        "digest": digest,
        "name": "m",
        "full_name": "m",
        "details": ModelDetails(),
        "size": 100,
        "size_vram": 0,
        "context_length": 4096,
        "state": "ready",
        "expires_in_s": 60.0,
    }
    return ResidentModel.model_validate(values | changes)


def board(worker_id: str = "w", **changes: object) -> WorkerBeat:
    values = {
        "worker_id": worker_id,
        "ready": True,
        "runtimes": ("gguf",),
        "memory_bytes": 8 * 2**30,
        "speeds": (Speed(model=A, load_s=2.0, prefill_s_per_token=0.01),),
    }
    return WorkerBeat.model_validate(values | changes)


@pytest.mark.parametrize(
    ("beat", "cost"),
    [
        (board(), 2.0 + 1.0),
        (board(models=(resident(),)), 1.0),
        (board(models=(resident(),), running=RunningJob(job_id="x", model=A, left_s=5)), 6.0),
        (board(draining=True), math.inf),
        (board(ready=False), math.inf),
        (board(runtimes=("rkllm",)), math.inf),
        (board(memory_bytes=2**20), math.inf),
        (board(failed={A: "no memory"}), math.inf),
    ],
)
def test_cost_is_wait_plus_load_plus_prefill(beat: WorkerBeat, cost: float) -> None:
    assert cost_s(ticket(), beat) == pytest.approx(cost)


def test_another_context_length_costs_a_load() -> None:
    beat = board(models=(resident(),))

    assert cost_s(ticket(num_ctx=4096), beat) == pytest.approx(1.0)
    assert cost_s(ticket(num_ctx=8192), beat) == pytest.approx(3.0)


def test_a_refusal_names_the_reason() -> None:
    assert "no memory" in refusal(ticket(), board(failed={A: "no memory"}))
    assert refusal(ticket(), board()) == ""


def test_the_best_placed_board_claims_at_once_and_another_waits_for_the_difference() -> None:
    warm, cold = board("warm", models=(resident(),)), board("cold")

    assert patience_s(ticket(), warm, [cold]) == 0
    assert patience_s(ticket(), cold, [warm]) == pytest.approx(2.0)


def test_a_cold_board_takes_what_the_warm_one_would_keep_waiting_for_longer() -> None:
    busy = board("busy", models=(resident(),), running=RunningJob(job_id="x", model=A, left_s=10))

    assert patience_s(ticket(), board("cold"), [busy]) == 0


def test_equal_boards_claim_one_after_the_other() -> None:
    boards = [board(f"w{i}") for i in range(4)]
    patiences = [patience_s(ticket(), me, [b for b in boards if b is not me]) for me in boards]

    assert sorted(patiences) == pytest.approx([0, 0.004, 0.008, 0.012])


def test_jobs_of_equal_cost_go_in_the_order_of_arrival_however_late_they_were_heard() -> None:
    offers = [
        Offer(ticket=ticket("second", order=2), age_s=0.010),
        Offer(ticket=ticket("first", order=1), age_s=0.008),
    ]

    assert choose(offers, board(), []).ticket == offers[1].ticket


def test_age_beats_cost_in_the_end() -> None:
    cheap = Offer(ticket=ticket("cheap"), age_s=0)
    old = Offer(ticket=ticket("old", model=B, prompt_tokens=1000), age_s=1000)
    me = board(models=(resident(),))

    assert choose([cheap, old], me, []).ticket == old.ticket


@pytest.mark.parametrize(
    ("first", "second"),
    [(JobClass.RESUME, JobClass.INTERACTIVE), (JobClass.INTERACTIVE, JobClass.BATCH)],
)
def test_classes_go_in_order(first: JobClass, second: JobClass) -> None:
    early = Offer(ticket=ticket("early", job_class=second, order=1), age_s=1)
    late = Offer(ticket=ticket("late", job_class=first, order=2), age_s=0)

    assert choose([early, late], board(), []).ticket == late.ticket


def test_a_busy_board_claims_nothing() -> None:
    me = board(running=RunningJob(job_id="x", model=A, left_s=1))

    assert choose([Offer(ticket=ticket(), age_s=99)], me, []) == Choice(
        ticket=None, wait_s=math.inf
    )


def test_a_board_that_holds_back_says_for_how_long() -> None:
    warm = board("warm", models=(resident(),))
    choice = choose([Offer(ticket=ticket(), age_s=0.5)], board("cold"), [warm])

    assert choice.ticket is None
    assert choice.wait_s == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("models", "need", "evicted"),
    [
        ([resident(A, size=50)], 50, []),
        ([resident(A, size=60)], 50, [A]),
        ([resident(A, size=60, expires_in_s=9), resident(B, size=30, expires_in_s=5)], 30, [B]),
        ([resident(A, size=60, expires_in_s=None), resident(B, size=30)], 60, [B, A]),
        ([resident(A, size=60, runs=1)], 50, None),
        ([resident(A, size=60, state="loading")], 50, None),
    ],
)
def test_eviction_takes_idle_models_by_keep_alive(
    models: list[ResidentModel], need: int, evicted: list[str] | None
) -> None:
    assert to_evict(models, need_bytes=need, limit_bytes=100) == evicted
