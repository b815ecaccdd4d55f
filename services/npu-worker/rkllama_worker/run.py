"""One attempt of a job on this board: its chunks, its lease, its end.

lease task        renews each half second; "not wanted", or nobody there, aborts the run
run               acquires the model, runs it, publishes and keeps every chunk
finished task     tells the gateway until it has every chunk; the board is free meanwhile
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk, encode, encode_chunk
from rkllama_protocol.errors import RkllamaError, RuntimeFailedError, UnreachableError
from rkllama_protocol.messages import (
    Finished,
    FinishedReply,
    Job,
    Lease,
    LeaseReply,
)
from rkllama_protocol.subjects import GatewayVerb, Subjects

from rkllama_worker.engine.wire import RunEnded
from rkllama_worker.residency import Residency, Resident

log = logging.getLogger(__name__)

LEASE_INTERVAL_S = 0.5
GATEWAY_LOST_S = 3.0
"""Connected time without an answer from the gateway after which the job has no client any more."""
FINISHED_INTERVAL_S = 0.5
FINISHED_FOR_S = 60.0
JOIN_S = 2.0
"""How long after an abort the runtime may take, beyond its prefill, before its process is killed."""


class Run:
    """One granted attempt. `execute` returns when the board is free for the next job."""

    def __init__(
        self,
        job: Job,
        attempt: int,
        *,
        gateway_id: str,
        worker_id: str,
        bus: Bus,
        subjects: Subjects,
    ) -> None:
        self.job = job
        self.attempt = attempt
        self.started_at = monotonic()
        self.ended: RunEnded | None = None
        self.load_s: float | None = None
        """Seconds the load took, if there was one."""
        self.failure: RkllamaError | None = None
        self.acquired = False
        """Whether the model was ready: a failure before that is a failed load."""
        self.over = asyncio.Event()
        """The runtime is joined and every chunk is on its way."""
        self._gateway_id = gateway_id
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._reply = subjects.reply(gateway_id, job.job_id, attempt)
        self._chunks: list[bytes] = []
        self._unwanted = asyncio.Event()
        self._interruption: RkllamaError | None = None
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()

    @property
    def last_seq(self) -> int:
        """Of the newest chunk; -1 before the first."""
        return len(self._chunks) - 1

    @property
    def answering(self) -> bool:
        """Whether a chunk has been made."""
        return bool(self._chunks)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self._unwanted.set()

    def interrupt(self, error: RkllamaError) -> None:
        """The answer is wanted, but ends here, with `error`."""
        self._interruption = error
        self._unwanted.set()

    async def execute(self, residency: Residency, *, prefill_s: float) -> None:
        """Run the job to its terminal chunk, or until it is not wanted, and join the runtime.

        `prefill_s` is the predicted time of the prompt: an abort cannot cut it short everywhere.
        """
        async with asyncio.TaskGroup() as tasks:
            lease = tasks.create_task(self._renew())
            publisher = tasks.create_task(self._publish())
            try:
                await self._execute(residency, prefill_s)
            except RkllamaError as error:
                self.failure = error
            finally:
                self._end()
                await publisher
                lease.cancel()
                self.over.set()

    async def _execute(self, residency: Residency, prefill_s: float) -> None:
        before = residency.get(self.job.model.digest)
        entry = await residency.acquire(self.job)
        self.acquired = True
        if entry is not before and entry.engine is not None:
            self.load_s = entry.engine.ready.load_ns / 1e9
        try:
            if self._unwanted.is_set():
                return
            await self._generate(entry, prefill_s)
        finally:
            await residency.release(entry)

    async def _generate(self, entry: Resident, prefill_s: float) -> None:
        engine = entry.engine
        if engine is None:
            raise RuntimeFailedError("the engine is gone")
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._abort_when_unwanted(entry, prefill_s))
            try:
                self.ended = await engine.run(encode(self.job), self._keep)
            except RkllamaError as error:
                # Inside the group it would come out as an ExceptionGroup.
                self.failure = error
            watcher.cancel()

    async def _abort_when_unwanted(self, entry: Resident, prefill_s: float) -> None:
        await self._unwanted.wait()
        engine = entry.engine
        if engine is None:
            return
        engine.abort()
        await asyncio.sleep(JOIN_S + prefill_s)
        log.error("run did not end after its abort", extra={"job_id": self.job.job_id})
        engine.kill()

    def _keep(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._outbox.put_nowait(chunk)

    def _end(self) -> None:
        """Close the answer: with the failure, if it had no terminal chunk and anybody wants to know."""
        error = self._interruption or (None if self._unwanted.is_set() else self.failure)
        complete = self.ended is not None and not self.ended.aborted
        if error is not None and not complete:
            chunk = Chunk(seq=len(self._chunks), error_code=error.code, error_message=error.message)
            self._keep(encode_chunk(chunk))
        self._outbox.put_nowait(None)

    async def _publish(self) -> None:
        while (chunk := await self._outbox.get()) is not None:
            await self._bus.publish(self._reply, chunk)

    async def replay(self, from_seq: int) -> None:
        """Publish again what the gateway lacks."""
        for chunk in self._chunks[max(0, from_seq) :]:
            await self._bus.publish(self._reply, chunk)

    async def _renew(self) -> None:
        subject = self._subjects.gateway(self._gateway_id, GatewayVerb.LEASE)
        unanswered_s = 0.0
        while not self._unwanted.is_set():
            asked_at = monotonic()
            try:
                reply = await self._bus.ask(
                    subject,
                    Lease(
                        job_id=self.job.job_id,
                        attempt=self.attempt,
                        worker_id=self._worker_id,
                        last_seq=self.last_seq,
                    ),
                    LeaseReply,
                    timeout_s=LEASE_INTERVAL_S,
                )
            except UnreachableError:
                await asyncio.sleep(max(0.0, LEASE_INTERVAL_S - (monotonic() - asked_at)))
                # Time without a broker says nothing about the gateway.
                if self._bus.connected:
                    unanswered_s += monotonic() - asked_at
                if unanswered_s >= GATEWAY_LOST_S:
                    log.warning("gateway lost", extra={"job_id": self.job.job_id})
                    self._unwanted.set()
                continue
            unanswered_s = 0.0
            if not reply.wanted:
                self._unwanted.set()
                return
            await asyncio.sleep(LEASE_INTERVAL_S)

    async def report_finished(self) -> None:
        """Tell the gateway that the attempt is over, until it has every chunk, for a minute at most."""
        subject = self._subjects.gateway(self._gateway_id, GatewayVerb.FINISHED)
        message = Finished(
            job_id=self.job.job_id,
            attempt=self.attempt,
            worker_id=self._worker_id,
            last_seq=self.last_seq,
        )
        until = monotonic() + FINISHED_FOR_S
        while monotonic() < until:
            try:
                reply = await self._bus.ask(
                    subject, message, FinishedReply, timeout_s=FINISHED_INTERVAL_S
                )
            except UnreachableError:
                await asyncio.sleep(FINISHED_INTERVAL_S)
                continue
            if reply.replay_from is None:
                return
            await self.replay(reply.replay_from)
