"""The rule by which boards claim, as tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rkllama_policy.claims import Choice, Offer, choose, patience_s
from rkllama_policy.cost import (
    FETCH_BYTES_PER_S,
    LARGE_BYTES,
    MOST_BLOBS,
    aged,
    cost_s,
    evicted_s,
    files_of,
    large_blobs,
    left_s,
    missing_bytes,
    overdue_s,
    refusal,
)
from rkllama_policy.eviction import (
    MOST_SAVED,
    CachedFile,
    SavedFile,
    to_drop,
    to_evict,
    to_forget,
)
from rkllama_protocol.messages import (
    ADAPTER_TYPE,
    WEIGHTS_TYPE,
    Descriptor,
    ModelDetails,
    ResidentModel,
    ResolvedModel,
    RunningJob,
    Speed,
    WorkerBeat,
)
from rkllama_protocol.subjects import JobClass

from libs.rkllama_policy.tests.building import A, B, board, resident, ticket


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


GB = 10**9


@pytest.mark.parametrize(
    ("beat", "missing", "fetch"),
    [
        (board(), 1.2 * GB, 1.2 * GB / FETCH_BYTES_PER_S),
        (board(fetch_bytes_per_s=100e6), 1.2 * GB, 12.0),
        (board(fetch_bytes_per_s=100e6, blobs={A: GB}), 0.2 * GB, 2.0),
        (board(fetch_bytes_per_s=100e6, blobs={A: 900_000_000}), 0.3 * GB, 3.0),
        (board(fetch_bytes_per_s=100e6, blobs={A: 2 * GB}), 0.2 * GB, 2.0),
        (board(blobs={A: GB, B: GB}), 0, 0.0),
        (board(shares_store=True), 0, 0.0),
        (board(models=(resident(),)), 1.2 * GB, -2.0),
    ],
    ids=["guessed", "learned", "some", "a-part", "too-much", "all", "shared", "resident"],
)
def test_what_a_board_lacks_is_to_be_fetched_first(
    beat: WorkerBeat, missing: float, fetch: float
) -> None:
    """A resident model costs neither that nor the load."""
    offer = ticket(blobs={A: GB, B: GB // 5})

    assert missing_bytes(offer, beat) == missing
    assert cost_s(offer, beat) == pytest.approx(2.0 + 1.0 + fetch)


def test_a_board_that_lacks_the_files_holds_back_as_long_as_the_fetch_takes() -> None:
    offer = ticket(blobs={A: GB})
    has, lacks = board("has", blobs={A: GB}), board("lacks", fetch_bytes_per_s=100e6)

    assert patience_s(offer, has, [lacks]) == 0
    assert patience_s(offer, lacks, [has]) == pytest.approx(10.0)


def layer(at: int, size: int, name: str = "f", media_type: str = WEIGHTS_TYPE) -> Descriptor:
    return Descriptor(
        media_type=media_type, digest=f"sha256:{at:064x}", size=size, name=name and f"{name}{at}"
    )


def test_a_board_needs_the_files_of_a_model_and_an_adapter_without_a_name() -> None:
    weights, template = layer(1, 9), layer(2, 9, name="", media_type="text")
    adapter = layer(3, 9, name="", media_type=ADAPTER_TYPE)
    model = ResolvedModel(
        name="m",
        full_name="m",
        digest=A,
        size=0,
        modified_at="",
        details=ModelDetails(),
        layers=(weights, template, adapter),
    )

    assert files_of(model) == [weights, adapter]


def test_a_ticket_names_the_largest_files_and_no_small_one() -> None:
    layers = tuple(layer(at, LARGE_BYTES - 1 + at) for at in range(MOST_BLOBS + 2))
    model = ResolvedModel(
        name="m",
        full_name="m",
        digest=A,
        size=0,
        modified_at="",
        details=ModelDetails(),
        layers=layers,
    )

    assert large_blobs(model) == {one.digest: one.size for one in layers[2:]}


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


def test_nobody_steps_back_for_a_board_that_still_runs() -> None:
    """It is predicted to be done by now, but cannot claim before it is."""
    overdue = RunningJob(job_id="x", model=A, left_s=0)
    others = [board(f"w{i}", running=overdue) for i in range(16)]

    assert patience_s(ticket(), board("free"), others) == 0


@pytest.mark.parametrize(("age_s", "left"), [(0.0, 10.0), (4.0, 6.0), (10.0, 2.0), (100.0, 2.0)])
def test_what_is_left_of_a_run_grows_less_and_never_nothing(age_s: float, left: float) -> None:
    """A run that takes longer than predicted is not over: how long it goes on is said with it."""
    busy = board(running=RunningJob(job_id="x", model=A, left_s=10, overdue_s=2))

    assert left_s(busy, age_s) == left
    assert left_s(aged(busy, age_s)) == left


def test_who_runs_nothing_is_free_however_old_its_word_is() -> None:
    assert left_s(board(), 2.0) == 0
    assert aged(board(), 2.0) == board()


@pytest.mark.parametrize(
    ("num_predict", "more"),
    [(-1, 2.5), (1000, 2.5), (110, 1.0), (100, 0.0), (10, 0.0), (0, 0.0)],
    ids=["no-bound", "far", "near", "usual", "short", "no-tokens"],
)
def test_an_answer_that_is_longer_than_usual_goes_on_but_not_beyond_its_bound(
    num_predict: int, more: float
) -> None:
    """A quarter of the usual hundred tokens, of a tenth of a second each."""
    assert overdue_s(ticket(num_predict=num_predict), board()) == pytest.approx(more)


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


@pytest.mark.parametrize(
    ("held", "most", "evicted"),
    [(2, 0, []), (2, 3, []), (2, 2, [A]), (2, 1, [A, B]), (0, 1, [])],
)
def test_a_bound_of_models_evicts_too(held: int, most: int, evicted: list[str]) -> None:
    """OLLAMA_MAX_LOADED_MODELS (contract 1.10): the shortest keep-alive first."""
    models = [resident(A, size=1, expires_in_s=5), resident(B, size=1, expires_in_s=9)][:held]

    assert to_evict(models, need_bytes=1, limit_bytes=100, max_models=most) == evicted


def test_a_bound_of_models_evicts_no_busy_one() -> None:
    busy = [resident(A, size=1, runs=1)]

    assert to_evict(busy, need_bytes=1, limit_bytes=100, max_models=1) is None


def cached(name: str, used_at: float, *, in_use: bool = False) -> CachedFile:
    return CachedFile(name=name, size=30, used_at=used_at, in_use=in_use)


@pytest.mark.parametrize(
    ("files", "need", "dropped"),
    [
        ([], 100, []),
        ([], 101, None),
        ([cached("a", 1)], 70, []),
        ([cached("a", 2), cached("b", 1)], 60, ["b"]),
        ([cached("a", 2), cached("b", 1)], 90, ["b", "a"]),
        ([cached("a", 2), cached("b", 1, in_use=True)], 60, ["a"]),
        ([cached("a", 2, in_use=True), cached("b", 1)], 80, None),
        ([cached(name, at) for at, name in enumerate("abcd")], 0, ["a"]),
    ],
)
def test_what_was_used_least_is_dropped_first_and_nothing_in_use(
    files: list[CachedFile], need: int, dropped: list[str] | None
) -> None:
    assert to_drop(files, need_bytes=need, limit_bytes=100) == dropped


@pytest.mark.parametrize(
    ("now", "limit_bytes", "forgotten"),
    [(3.0, 30, []), (3.0, 29, ["a"]), (3.0, 9, ["c", "b", "a"]), (12.5, 30, ["b", "a"])],
    ids=["fit", "too-large", "none-fits", "too-old"],
)
def test_conversations_that_were_used_longest_ago_are_forgotten(
    now: float, limit_bytes: int, forgotten: list[str]
) -> None:
    """Ten bytes each, used at 1, 2 and 3 seconds, kept for ten."""
    files = [SavedFile(hash=name, size=10, used_at=at) for at, name in enumerate("abc", 1)]

    assert to_forget(files, now=now, limit_bytes=limit_bytes, max_age_s=10) == forgotten


def test_so_many_conversations_are_kept_and_no_more() -> None:
    files = [SavedFile(hash=str(at), size=1, used_at=at) for at in range(MOST_SAVED + 2)]

    assert to_forget(files, now=0, limit_bytes=2**30, max_age_s=2**30) == ["1", "0"]


ROOM = 3 * 10**9
C = f"sha256:{'c' * 64}"


@pytest.mark.parametrize(
    ("held", "seconds"),
    [
        ({}, 0.0),
        ({"models": (resident(A),)}, 0.0),
        ({"models": (resident(B, size=10**9),)}, 0.0),
        ({"models": (resident(B, size=2 * 10**9),)}, 3.0),
        ({"models": (resident(B, size=10**9),), "max_models": 1}, 3.0),
        ({"models": (resident(B, size=2 * 10**9, runs=1),)}, 3.0),
        ({"models": (resident(C, size=2 * 10**9),)}, 0.3 + 1.6 * 10**9 / 250e6),
        ({"models": (resident(B, size=10**9), resident(C, size=10**9, expires_in_s=1.0))}, 3.5),
    ],
    ids=["empty", "resident", "fits", "memory", "bound", "runs", "unknown", "the one that goes"],
)
def test_a_load_costs_what_it_forces_on_others(held: dict[str, Any], seconds: float) -> None:
    """`A` needs 1.25 GB of 3. `B` loads in three seconds; what nobody has loaded is guessed by its size."""
    speeds = (*board().speeds, Speed(model=B, load_s=3.0))
    there = board(memory_bytes=ROOM, speeds=speeds, **held)

    assert evicted_s(ticket(), there) == pytest.approx(seconds)
