"""A held job, event by event."""

from __future__ import annotations

import math

import pytest
from rkllama_gateway.job import (
    BUFFER_BYTES,
    LEASE_S,
    MAX_UNHEARD,
    RECONNECT_GRACE_S,
    HeldJob,
    Loss,
)
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    EngineDiedError,
    ExpiredError,
    RuntimeFailedError,
    WorkerLostError,
)
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel, Resume
from rkllama_protocol.subjects import JobClass

MODEL = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest=f"sha256:{'a' * 64}",
    size=1,
    modified_at="2026-01-01T00:00:00Z",
    details=ModelDetails(format="gguf"),
)
NEVER = -1000.0


def held_job(*, deadline_at: float = math.inf) -> HeldJob:
    job = Job(job_id="j", model=MODEL, kind="chat", now="2026-01-01T00:00:00Z")
    return HeldJob(
        job=job,
        job_class=JobClass.INTERACTIVE,
        order=1,
        accepted_at=0.0,
        deadline_at=deadline_at,
    )


def running_job() -> HeldJob:
    held = held_job()
    held.claim("w", 1, 0.0)
    held.lease("w", 1, -1, 0.0)
    return held


def text(seq: int, content: str = "x") -> Chunk:
    return Chunk(seq=seq, ids=(1,), content=content)


def test_only_the_first_claim_of_an_attempt_gets_the_job() -> None:
    held = held_job()

    assert held.claim("a", 1, 0.0)
    assert not held.claim("b", 1, 0.0)
    assert not held.claim("a", 1, 0.0)


def test_a_claim_of_another_attempt_is_refused() -> None:
    assert not held_job().claim("a", 2, 0.0)


def test_chunks_are_taken_once_and_in_order() -> None:
    held = running_job()

    whole = [held.chunk(1, text(seq), 10) for seq in (0, 2, 2, 0, 1)]

    assert whole == [True, False, False, True, True]
    assert [chunk.seq for chunk in held.take()] == [0, 1, 2]


def test_chunks_of_another_attempt_are_dropped() -> None:
    held = running_job()
    held.chunk(2, text(0), 10)

    assert held.take() == []


def test_a_chunk_may_come_before_the_first_lease() -> None:
    held = held_job()
    held.claim("w", 1, 0.0)
    held.chunk(1, Chunk(seq=0, finish="stop"), 10)

    assert held.state is JobState.ENDED
    assert held.error is None


def test_a_chunk_missing_since_the_last_lease_is_asked_for() -> None:
    held = running_job()

    assert held.lease("w", 1, 0, 0.5) is None
    assert held.lease("w", 1, 1, 1.0) == 0
    held.chunk(1, text(0), 10)
    held.chunk(1, text(1), 10)
    assert held.lease("w", 1, 1, 1.5) is None


@pytest.mark.parametrize(
    ("now", "reconnected_at", "lost"),
    [
        (LEASE_S - 0.1, NEVER, False),
        (LEASE_S + 0.1, NEVER, True),
        (LEASE_S + 0.1, 1.0, False),
        (1.0 + RECONNECT_GRACE_S + LEASE_S + 0.1, 1.0, True),
    ],
)
def test_a_lease_is_lost_after_its_time_but_not_during_a_reconnect(
    now: float, reconnected_at: float, *, lost: bool
) -> None:
    assert running_job().lease_lost(now, reconnected_at=reconnected_at) is lost


def test_a_job_that_showed_nothing_waits_again_as_the_next_attempt() -> None:
    held = running_job()
    held.lease_lost(10.0, reconnected_at=NEVER)

    assert (held.state, held.attempt, held.job_class) == (JobState.WAITING, 2, JobClass.RESUME)
    assert not held.holds("w", 1)
    assert held.claim("other", 2, 10.0)


def attempt(held: HeldJob, number: int, worker_id: str = "w") -> None:
    """The board claims the attempt and renews its lease."""
    assert held.claim(worker_id, number, 0.0)
    held.lease(worker_id, number, -1, 0.0)


def lose(held: HeldJob, loss: Loss, worker_id: str, number: int) -> None:
    match loss:
        case Loss.LEASE:
            held.lease_lost(10.0, reconnected_at=NEVER)
        case Loss.ENGINE | Loss.LOAD:
            held.chunk(number, Chunk(seq=held.next_seq, error_code=loss.value), 10)
        case Loss.RELEASED:
            held.released()


@pytest.mark.parametrize("loss", list(Loss))
def test_the_next_attempt_gets_every_id_and_what_it_must_not_change(loss: Loss) -> None:
    held = running_job()
    held.chunk(1, Chunk(seq=0, ids=(5,), content="a", prompt_tokens=7, prompt_hash="h"), 10)
    held.chunk(1, Chunk(seq=1, ids=(6, 7), content="b"), 10)
    lose(held, loss, "w", 1)

    assert (held.state, held.attempt, held.losses) == (JobState.WAITING, 2, [loss])
    assert held.job.resume == Resume(ids=(5, 6, 7), prompt_hash="h")
    assert [chunk.content for chunk in held.take()] == ["a", "b"]


def test_counts_and_durations_are_of_the_whole_answer() -> None:
    held = running_job()
    first = {"prompt_tokens": 7, "prompt_hash": "h"}
    held.chunk(1, Chunk(seq=0, ids=(5,), prefill_ns=10, decode_ns=1, **first), 10)
    held.chunk(1, Chunk(seq=1, ids=(6,), prefill_ns=10, decode_ns=4), 10)
    lose(held, Loss.LEASE, "w", 1)
    attempt(held, 2)
    held.chunk(2, Chunk(seq=0, ids=(7,), prefill_ns=20, decode_ns=1, **first), 10)
    held.chunk(2, Chunk(seq=1, finish="stop", prefill_ns=20, decode_ns=2), 10)

    chunks = held.take()
    assert [chunk.seq for chunk in chunks] == [0, 1, 2, 3]
    assert [chunk.prompt_tokens for chunk in chunks] == [7, 0, 0, 0]
    assert [(chunk.prefill_ns, chunk.decode_ns) for chunk in chunks] == [
        (10, 1), (10, 4), (30, 5), (30, 6),
    ]  # fmt: skip


def test_an_attempt_counts_what_it_did_not_finish_to_the_next_but_one() -> None:
    held = running_job()
    held.chunk(1, Chunk(seq=0, ids=(5,), prefill_ns=10, prompt_hash="h"), 10)
    lose(held, Loss.RELEASED, "w", 1)
    attempt(held, 2)
    held.chunk(2, Chunk(seq=0, ids=(6,), prefill_ns=20), 10)
    lose(held, Loss.RELEASED, "w", 2)
    attempt(held, 3)
    held.chunk(3, Chunk(seq=0, ids=(7,), prefill_ns=30), 10)

    assert held.job.resume == Resume(ids=(5, 6), prompt_hash="h")
    assert held.take()[-1].prefill_ns == 60


def test_an_embedding_goes_on_at_the_first_missing_vector() -> None:
    held = running_job()
    held.chunk(1, Chunk(seq=0, vector="AAAA", prompt_tokens=3), 10)
    lose(held, Loss.LEASE, "w", 1)
    attempt(held, 2)
    held.chunk(2, Chunk(seq=0, vector="BBBB", prompt_tokens=4), 10)

    assert held.job.resume == Resume(vectors=1)
    assert [chunk.prompt_tokens for chunk in held.take()] == [3, 4]


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([(Loss.LEASE, "a"), (Loss.LEASE, "a")], False),
        ([(Loss.LEASE, "a"), (Loss.LEASE, "a"), (Loss.LEASE, "a")], True),
        ([(Loss.LEASE, "a"), (Loss.LEASE, "b")], True),
        ([(Loss.ENGINE, "a"), (Loss.LEASE, "b")], True),
        ([(Loss.LOAD, "a"), (Loss.LOAD, "b")], False),
        ([(Loss.LOAD, "a"), (Loss.LOAD, "b"), (Loss.LOAD, "c")], True),
        ([(Loss.RELEASED, name) for name in "abcdef"], False),
    ],
)
def test_how_often_a_job_is_tried(losses: list[tuple[Loss, str]], *, ended: bool) -> None:
    held = held_job()
    for number, (loss, worker_id) in enumerate(losses, 1):
        attempt(held, number, worker_id)
        lose(held, loss, worker_id, number)

    assert held.ended is ended
    assert (held.error is not None) is ended


def test_a_job_is_given_up_with_the_last_failure_after_what_it_showed() -> None:
    held = held_job()
    for number in (1, 2, 3):
        attempt(held, number)
        held.chunk(number, text(0), 10)
        lose(held, Loss.ENGINE, "w", number)

    assert isinstance(held.error, EngineDiedError)
    assert "3 attempts" in str(held.error)
    assert len(held.take()) == 3


def test_an_engine_that_dies_before_the_first_lease_counts() -> None:
    held = held_job()
    for number in (1, 2, 3):
        held.claim("w", number, 0.0)
        lose(held, Loss.ENGINE, "w", number)

    assert held.ended


def test_an_attempt_that_never_renewed_counts_only_as_one_of_five_in_a_row() -> None:
    held = held_job()
    for number in range(1, MAX_UNHEARD):
        assert held.claim("w", number, 0.0)
        held.lease_lost(10.0, reconnected_at=NEVER)

    assert held.state is JobState.WAITING
    assert held.claim("w", MAX_UNHEARD, 0.0)
    held.lease_lost(10.0, reconnected_at=NEVER)
    assert isinstance(held.error, WorkerLostError)


def test_a_client_that_reads_too_slowly_is_cut_off() -> None:
    held = running_job()
    held.chunk(1, text(0), BUFFER_BYTES + 1)

    assert isinstance(held.error, RuntimeFailedError)


def test_a_board_that_sends_on_after_a_gap_is_not_held_for_ever() -> None:
    held = running_job()
    held.chunk(1, text(1), BUFFER_BYTES // 2)
    assert not held.ended
    held.chunk(1, text(2), BUFFER_BYTES // 2)

    assert isinstance(held.error, RuntimeFailedError)
    assert held.take() == []


def test_a_chunk_that_comes_twice_after_a_gap_counts_once() -> None:
    held = running_job()
    for _ in range(3):
        held.chunk(1, text(1), BUFFER_BYTES // 2)

    assert not held.ended


def test_a_gap_that_closes_too_late_for_a_slow_client_ends_the_job_once() -> None:
    held = running_job()
    held.chunk(1, text(2), BUFFER_BYTES // 2 - 1000)
    held.chunk(1, Chunk(seq=3, finish="stop"), 10)
    held.chunk(1, text(0), BUFFER_BYTES // 2)
    held.chunk(1, text(1), BUFFER_BYTES // 2)

    assert isinstance(held.error, RuntimeFailedError)


def test_what_comes_after_the_end_is_dropped() -> None:
    held = running_job()
    held.cancel()
    held.chunk(1, text(0), 10)
    held.fail(RuntimeFailedError("late"))

    assert held.take() == []
    assert "gone" in str(held.error)


def test_a_job_that_nobody_took_fails_at_its_deadline() -> None:
    held = held_job(deadline_at=5.0)

    assert not held.expired(4.9)
    assert held.expired(5.0)
    assert isinstance(held.error, ExpiredError)


def test_a_deadline_is_no_bound_on_an_answer_that_began() -> None:
    """Also where its board is lost: it goes on elsewhere as soon as it can."""
    held = held_job(deadline_at=5.0)
    held.claim("w", 1, 0.0)

    assert not held.expired(9.0)
    assert held.lease_lost(9.0, reconnected_at=NEVER)
    assert not held.expired(9.0)
    assert held.state is JobState.WAITING
