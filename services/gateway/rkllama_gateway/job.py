"""One job as the gateway holds it: a pure state machine with the clock passed in.

Events go in as method calls with `now` (monotonic seconds) and say at once what they mean; what has
to be done about it (publish, ask, answer) is the caller's. States are those of the protocol's
`lifecycle`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum

from rkllama_policy.admission import Place
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    CancelledError,
    EngineDiedError,
    ExpiredError,
    LoadFailedError,
    RkllamaError,
    RuntimeFailedError,
    WorkerLostError,
    from_wire,
)
from rkllama_protocol.lifecycle import JobEvent, JobState, step
from rkllama_protocol.messages import Job, Link, Resume
from rkllama_protocol.subjects import JobClass

LEASE_S = 2.0
"""A lease not renewed for this long is lost."""
RECONNECT_GRACE_S = 3.0
"""After the gateway's own reconnect, boards have this long to renew."""
MAX_ATTEMPTS = 3
"""Attempts that began; one that was never renewed, or was handed over, does not count."""
MAX_UNHEARD = 5
"""Grants in a row that no board was heard of again after: that is no accident."""
MAX_BOARDS_LOST = 2
"""Boards that died, or whose engine did, while they ran the job: then the job is to blame."""
BUFFER_BYTES = 8 * 2**20
"""What a job holds for a client that reads too slowly, before it is cut off."""
CHUNK_OVERHEAD_BYTES = 512
"""What a chunk takes beside its encoded size, once decoded."""


_TOO_SLOW = "the client reads too slowly"


class Loss(StrEnum):
    """Why an attempt ended without its answer."""

    LEASE = "lease_lost"
    ENGINE = "engine_died"
    LOAD = "load_failed"
    RELEASED = "released"


_ELSEWHERE = {EngineDiedError.code: Loss.ENGINE, LoadFailedError.code: Loss.LOAD}
"""Failures of a board, not of the job: another one may do better."""


@dataclass(eq=False, slots=True, kw_only=True)
class HeldJob:
    """A job, from the request's first byte to its last."""

    job: Job
    body: bytes = b""
    """The job encoded, as boards get it."""
    job_class: JobClass
    order: int
    accepted_at: float
    key: str | None = None
    """Name of the client's key."""
    chain: tuple[Link, ...] = ()
    """The conversation that it continues."""
    deadline_at: float = math.inf
    """Until when a board has to have taken it."""
    place: Place | None = None
    """Where it stood when it was accepted."""
    offered: bool = False
    """It was said to boards at least once: until then its key has too many others with them."""
    attempt: int = 1
    begun: int = 0
    """Attempts that renewed their lease at least once, and were lost."""
    state: JobState = JobState.WAITING
    worker_id: str = ""
    lease_at: float = 0.0
    unservable_since: float | None = None
    """Since when no board there is could run it."""
    next_seq: int = 0
    losses: list[Loss] = field(default_factory=list)
    """Why each attempt before this one ended."""
    error: RkllamaError | None = None
    chunks: deque[Chunk] = field(default_factory=deque)
    """Received, in order, and not yet taken by the client's answer."""
    buffered_bytes: int = 0
    """Of these chunks, and of those that were taken last: they may be on their way to the client still."""
    _taken_bytes: int = 0
    _early: dict[int, tuple[Chunk, int]] = field(default_factory=dict)
    """Received, with their sizes, after one that is missing."""
    _early_bytes: int = 0
    _lease_seq: int = -1
    _failure: RkllamaError = field(default_factory=lambda: RuntimeFailedError("no attempt began"))
    """What the last attempt that was lost failed with."""
    _unheard: int = 0
    _lost_boards: set[str] = field(default_factory=set)
    _accepted: int = 0
    """Chunks received, over all attempts."""
    _ids: list[int] = field(default_factory=list)
    _prompt_hash: str = ""
    _vectors: int = 0
    _before: tuple[int, int] = (0, 0)
    """Nanoseconds of prefill and decode that earlier attempts took."""
    _spent: tuple[int, int] = (0, 0)
    """The same with what this attempt took so far."""

    @property
    def job_id(self) -> str:
        """Of the job."""
        return self.job.job_id

    @property
    def begun_to_answer(self) -> bool:
        """Whether a chunk has been accepted, in any attempt."""
        return self._accepted > 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state is JobState.ENDED

    def age_s(self, now: float) -> float:
        """Seconds since it was accepted."""
        return now - self.accepted_at

    def _step(self, event: JobEvent) -> None:
        self.state = step(self.state, event)

    # ------------------------------------------------------------------ boards

    def claim(self, worker_id: str, attempt: int, now: float) -> bool:
        """Whether the board gets the job: the first claim of the present attempt does."""
        if self.state is not JobState.WAITING or attempt != self.attempt:
            return False
        self._step(JobEvent.CLAIM)
        self.worker_id, self.lease_at = worker_id, now
        return True

    def holds(self, worker_id: str, attempt: int) -> bool:
        """Whether this board's attempt is the present one, and still wanted."""
        mine = worker_id == self.worker_id and attempt == self.attempt
        return mine and self.state in (JobState.GRANTED, JobState.RUNNING)

    def lease(self, worker_id: str, attempt: int, last_seq: int, now: float) -> int | None:
        """Renew the lease of an attempt that `holds`; the first chunk to replay, if any is missing.

        Chunks and leases travel apart, so only a chunk that the *previous* renewal named is missing.
        """
        self._step(JobEvent.LEASE)
        self.lease_at = now
        missing = self.next_seq if self._lease_seq >= self.next_seq else None
        self._lease_seq = last_seq
        return missing

    def chunk(self, attempt: int, chunk: Chunk, size: int) -> bool:
        """Take a chunk of `size` bytes; False says that earlier ones are missing.

        Chunks of other attempts, and those that were here before, are dropped.
        """
        if attempt != self.attempt or self.state not in (JobState.GRANTED, JobState.RUNNING):
            return True
        if chunk.seq < self.next_seq:
            return True
        if chunk.seq in self._early:
            return False
        self._early[chunk.seq] = (chunk, size)
        self._early_bytes += size + CHUNK_OVERHEAD_BYTES
        while not self.ended and (found := self._early.pop(self.next_seq, None)) is not None:
            self._accept(*found)
            if attempt != self.attempt:
                return True
        if not self.ended and self._early_bytes > BUFFER_BYTES:
            self.fail(RuntimeFailedError("a part of the answer was lost"))
        return self.ended or not self._early

    def _accept(self, chunk: Chunk, size: int) -> None:
        self.next_seq += 1
        self._early_bytes -= size + CHUNK_OVERHEAD_BYTES
        if (loss := _ELSEWHERE.get(chunk.error_code)) is not None:
            self._next_attempt(loss, from_wire(chunk.error_code, chunk.error_message))
            return
        chunk = self._over_all_attempts(chunk)
        self.chunks.append(chunk)
        self.buffered_bytes += size + CHUNK_OVERHEAD_BYTES
        if chunk.terminal:
            self._step(JobEvent.TERMINAL_CHUNK)
        elif self.buffered_bytes > BUFFER_BYTES:
            self.fail(RuntimeFailedError(_TOO_SLOW))

    def _over_all_attempts(self, chunk: Chunk) -> Chunk:
        """The chunk as it would be in an answer of one attempt; what resuming needs of it is noted."""
        before_prefill_ns, before_decode_ns = self._before
        self._spent = (before_prefill_ns + chunk.prefill_ns, before_decode_ns + chunk.decode_ns)
        if self._resumed:
            again = self._prompt_hash and not chunk.vector
            chunk = replace(
                chunk,
                seq=self._accepted,
                prompt_tokens=0 if again else chunk.prompt_tokens,
                prefill_ns=self._spent[0],
                decode_ns=self._spent[1],
            )
        self._accepted += 1
        self._ids += chunk.ids
        self._vectors += bool(chunk.vector)
        self._prompt_hash = self._prompt_hash or chunk.prompt_hash
        return chunk

    @property
    def _resumed(self) -> bool:
        return self.job.resume is not None

    def take(self) -> list[Chunk]:
        """What has arrived since the last call."""
        taken = list(self.chunks)
        self.chunks.clear()
        self.buffered_bytes -= self._taken_bytes
        self._taken_bytes = self.buffered_bytes
        return taken

    def cut_off(self) -> None:
        """Its client reads too slowly, and memory is short: what has not been taken is dropped."""
        self.fail(RuntimeFailedError(_TOO_SLOW))
        self.chunks.clear()
        self.buffered_bytes = self._taken_bytes

    # ------------------------------------------------------------------ ends

    def cancel(self) -> None:
        """The client is gone."""
        if not self.ended:
            self._step(JobEvent.CANCEL)
            self.error = CancelledError("the client is gone")

    def fail(self, error: RkllamaError) -> None:
        """It ends here, with `error`, after the chunks that have arrived."""
        if not self.ended:
            self._step(JobEvent.FAIL)
            self.error = error

    def expired(self, now: float) -> bool:
        """Whether no board ever took it before its deadline; then it has failed."""
        if self.state is not JobState.WAITING or self.losses or now < self.deadline_at:
            return False
        self.fail(ExpiredError("no worker was free before the request's deadline"))
        return True

    def lease_lost(self, now: float, *, reconnected_at: float) -> bool:
        """Whether the board that has the job is gone; then the job waits again, or has failed."""
        if self.state not in (JobState.GRANTED, JobState.RUNNING):
            return False
        since = max(self.lease_at, reconnected_at + RECONNECT_GRACE_S)
        if now - since < LEASE_S:
            return False
        error = WorkerLostError(f"the worker {self.worker_id} was lost in mid-answer")
        self._next_attempt(Loss.LEASE, error)
        return True

    def released(self) -> None:
        """The board hands the job over, and has sent every chunk of its attempt."""
        self._next_attempt(Loss.RELEASED, WorkerLostError("the worker was shut down"))

    def give_up(self) -> None:
        """No further attempt: the job fails as the last one did."""
        error = self._failure
        if self.begun > 1:
            error = type(error)(f"{error.message}; given up after {self.begun} attempts")
        self.fail(error)

    def _next_attempt(self, loss: Loss, error: RkllamaError) -> None:
        """Wait for another board, which goes on where this one ended; or end, with `error`."""
        self.losses.append(loss)
        self._failure = error
        # The first chunk can overtake the first lease.
        began = self.state is JobState.RUNNING or self.next_seq > 0
        self._unheard = 0 if began else self._unheard + 1
        if began and loss is not Loss.RELEASED:
            self.begun += 1
        if began and loss in (Loss.LEASE, Loss.ENGINE):
            self._lost_boards.add(self.worker_id)
        if (
            len(self._lost_boards) >= MAX_BOARDS_LOST
            or self.begun >= MAX_ATTEMPTS
            or self._unheard >= MAX_UNHEARD
        ):
            self.give_up()
            return
        self._step(JobEvent.ATTEMPT_LOST)
        self.attempt += 1
        self.job_class = JobClass.RESUME
        self.worker_id, self.next_seq, self._lease_seq = "", 0, -1
        self._early.clear()
        self._early_bytes = 0
        self._before = self._spent
        if self._accepted:
            resume = Resume(
                ids=tuple(self._ids), prompt_hash=self._prompt_hash, vectors=self._vectors
            )
            self.job = self.job.model_copy(update={"resume": resume})
