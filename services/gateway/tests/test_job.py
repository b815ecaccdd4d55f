"""A held job, event by event."""

from __future__ import annotations

import pytest
from rkllama_gateway.job import BUFFER_BYTES, LEASE_S, RECONNECT_GRACE_S, HeldJob
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import RuntimeFailedError, WorkerLostError
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel
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


def held_job() -> HeldJob:
    job = Job(job_id="j", model=MODEL, kind="chat", now="2026-01-01T00:00:00Z")
    return HeldJob(job=job, job_class=JobClass.INTERACTIVE, order=1, accepted_at=0.0)


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


def test_a_job_in_mid_answer_fails_visibly_after_what_it_showed() -> None:
    held = running_job()
    held.chunk(1, text(0), 10)
    held.lease_lost(10.0, reconnected_at=NEVER)

    assert held.ended
    assert isinstance(held.error, WorkerLostError)
    assert len(held.take()) == 1


def test_a_job_that_three_boards_died_of_is_failed() -> None:
    held = held_job()
    for attempt in (1, 2, 3):
        held.claim("w", attempt, 0.0)
        held.lease("w", attempt, -1, 0.0)
        held.lease_lost(10.0, reconnected_at=NEVER)

    assert isinstance(held.error, WorkerLostError)


def test_an_attempt_that_never_renewed_does_not_count() -> None:
    held = held_job()
    for attempt in range(1, 10):
        assert held.claim("w", attempt, 0.0)
        held.lease_lost(10.0, reconnected_at=NEVER)

    assert held.state is JobState.WAITING


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
