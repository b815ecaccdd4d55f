"""One job as the gateway holds it: a pure state machine with the clock passed in.

Events go in as method calls with `now` (monotonic seconds) and say at once what they mean; what has
to be done about it (publish, ask, answer) is the caller's. States are those of the protocol's
`lifecycle`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import (
    CancelledError,
    RkllamaError,
    RuntimeFailedError,
    WorkerLostError,
)
from rkllama_protocol.lifecycle import JobEvent, JobState, step
from rkllama_protocol.messages import Job
from rkllama_protocol.subjects import JobClass

LEASE_S = 2.0
"""A lease not renewed for this long is lost."""
RECONNECT_GRACE_S = 3.0
"""After the gateway's own reconnect, boards have this long to renew."""
MAX_ATTEMPTS = 3
"""Attempts that began; one that was never renewed does not count."""
BUFFER_BYTES = 8 * 2**20
"""What a job holds for a client that reads too slowly, before it is cut off."""
CHUNK_OVERHEAD_BYTES = 64


@dataclass(eq=False, slots=True, kw_only=True)
class HeldJob:
    """A job, from the request's first byte to its last."""

    job: Job
    body: bytes = b""
    """The job encoded, as boards get it."""
    job_class: JobClass
    order: int
    accepted_at: float
    attempt: int = 1
    begun: int = 0
    """Attempts that renewed their lease at least once."""
    state: JobState = JobState.WAITING
    worker_id: str = ""
    lease_at: float = 0.0
    unservable_since: float | None = None
    """Since when no board there is could run it."""
    next_seq: int = 0
    seen: int = 0
    """Chunks received, over all attempts."""
    error: RkllamaError | None = None
    chunks: deque[Chunk] = field(default_factory=deque)
    """Received, in order, and not yet taken by the client's answer."""
    buffered_bytes: int = 0
    _early: dict[int, tuple[Chunk, int]] = field(default_factory=dict)
    """Received, with their sizes, after one that is missing."""
    _early_bytes: int = 0
    _lease_seq: int = -1

    @property
    def job_id(self) -> str:
        """Of the job."""
        return self.job.job_id

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
        if self.state is JobState.GRANTED:
            self.begun += 1
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
        if not self.ended and self._early_bytes > BUFFER_BYTES:
            self.fail(RuntimeFailedError("a part of the answer was lost"))
        return self.ended or not self._early

    def _accept(self, chunk: Chunk, size: int) -> None:
        self.next_seq += 1
        self.seen += 1
        self._early_bytes -= size + CHUNK_OVERHEAD_BYTES
        self.chunks.append(chunk)
        self.buffered_bytes += size + CHUNK_OVERHEAD_BYTES
        if chunk.terminal:
            self._step(JobEvent.TERMINAL_CHUNK)
        elif self.buffered_bytes > BUFFER_BYTES:
            self.fail(RuntimeFailedError("the client reads too slowly"))

    def take(self) -> list[Chunk]:
        """What has arrived since the last call."""
        taken = list(self.chunks)
        self.chunks.clear()
        self.buffered_bytes = 0
        return taken

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

    def lease_lost(self, now: float, *, reconnected_at: float) -> bool:
        """Whether the board that has the job is gone; then the job waits again, or has failed."""
        if self.state not in (JobState.GRANTED, JobState.RUNNING):
            return False
        since = max(self.lease_at, reconnected_at + RECONNECT_GRACE_S)
        if now - since < LEASE_S:
            return False
        if self.seen:
            self.fail(WorkerLostError(f"the worker {self.worker_id} was lost in mid-answer"))
        elif self.begun >= MAX_ATTEMPTS:
            self.fail(
                WorkerLostError(f"{self.begun} workers were lost while they ran this request")
            )
        else:
            self._step(JobEvent.LEASE_LOST)
            self.attempt += 1
            self.job_class = JobClass.RESUME
            self.worker_id, self.next_seq, self._lease_seq = "", 0, -1
            self._early.clear()
            self._early_bytes = 0
        return True
