"""One attempt of a job on this board: its chunks, its lease, its end.

lease task        renews each half second; "not wanted", or nobody there, aborts the run
run               acquires the model, runs it, publishes and keeps every chunk
watchdog          kills an engine that has been silent for longer than it may
finished task     tells the gateway until it has every chunk; the board is free meanwhile
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import monotonic

from rkllama_policy.learning import Measured
from rkllama_protocol.bus import Bus
from rkllama_protocol.codec import Chunk, encode, encode_chunk
from rkllama_protocol.errors import (
    EngineDiedError,
    LoadFailedError,
    RkllamaError,
    RuntimeFailedError,
    UnreachableError,
)
from rkllama_protocol.messages import (
    Finished,
    FinishedReply,
    Job,
    Lease,
    LeaseReply,
    Speed,
    Ticket,
)
from rkllama_protocol.subjects import GatewayVerb, Subjects

from rkllama_worker.engine.wire import RunEnded, Saving
from rkllama_worker.engine_process import EngineProcess
from rkllama_worker.residency import Residency, Resident
from rkllama_worker.saved import SavedContexts
from rkllama_worker.silence import Silence

log = logging.getLogger(__name__)

LEASE_INTERVAL_S = 0.5
GATEWAY_LOST_S = 3.0
"""Connected time without an answer from the gateway after which the job has no client any more."""
FINISHED_INTERVAL_S = 0.5
FINISHED_FOR_S = 60.0
SAVE_S = 60.0
"""How long an engine may write a context: the slowest SD cards take 10 MB/s, and a context is some hundred MB."""
JOIN_S = 2.0
"""How long after an abort the runtime may take, beyond its prefill, before its process is killed."""


def measured(load_s: float | None, ended: RunEnded | None) -> Measured:
    """What a run took. One that was cut short says nothing of how long answers are."""
    if ended is None:
        return Measured(load_s=load_s)
    return Measured(
        load_s=load_s,
        restore_s=ended.restore_ns / 1e9 if ended.restored else None,
        computed_tokens=ended.prompt_tokens - ended.reused_tokens,
        prefill_s=ended.prefill_ns / 1e9,
        generated_tokens=0 if ended.aborted else ended.generated_tokens,
        decode_s=ended.decode_ns / 1e9,
    )


class Run:
    """One granted attempt. `execute` returns when the board is free for the next job."""

    def __init__(
        self,
        job: Job,
        ticket: Ticket,
        *,
        worker_id: str,
        bus: Bus,
        subjects: Subjects,
    ) -> None:
        self.job = job
        self.ticket = ticket
        self.attempt = ticket.attempt
        self.started_at = monotonic()
        self.ended: RunEnded | None = None
        self.load_s: float | None = None
        """Seconds the load took, if there was one."""
        self.load_evicted = False
        """Whether another model had to go for it."""
        self.failure: RkllamaError | None = None
        self.acquired = False
        """Whether the model was ready: a failure before that is a failed load."""
        self.over = asyncio.Event()
        """The runtime is joined and every chunk is on its way."""
        self._gateway_id = ticket.gateway_id
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._reply = subjects.reply(ticket.gateway_id, worker_id, job.job_id, ticket.attempt)
        self._chunks: list[bytes] = []
        self._last: bytes | None = None
        """The terminal chunk, until the model is released: who reads it may ask at once what is loaded."""
        self._told = False
        """It is on its way already: what the engine still writes into a file, nobody waits for."""
        self._heard_at = monotonic()
        """When the engine last said something."""
        self._unwanted = asyncio.Event()
        """The run has to end before its time."""
        self._released = False

    @property
    def _named(self) -> dict[str, str]:
        """What every line of a log says of it."""
        return {"job_id": self.job.job_id, "model": self.job.model.name}

    @property
    def last_seq(self) -> int:
        """Of the newest chunk; -1 before the first."""
        return len(self._chunks) - 1

    @property
    def _prompts(self) -> bool:
        """Whether the job puts its prompt into the model's context, in place of what was there."""
        return self.job.kind != "load" and not self.job.render_only

    @property
    def _read(self) -> bool:
        """Whether the context holds the job's prompt: it does from the first chunk of an answer on."""
        return self.answering and self.failure is None

    @property
    def answering(self) -> bool:
        """Whether a chunk has been made."""
        return bool(self._chunks)

    def cancel(self) -> None:
        """Nobody wants the answer any more; of one that is told already, nobody wants more."""
        if self._told:
            return
        self._released = False
        self._unwanted.set()

    def hand_over(self) -> None:
        """The answer is wanted, but another board has to go on with it."""
        self._released = True
        self._unwanted.set()

    async def execute(
        self,
        residency: Residency,
        saved: SavedContexts,
        *,
        speed: Speed,
        prefill_s: float,
        silence: Silence,
    ) -> None:
        """Run the job to its terminal chunk, or until it is not wanted, and join the runtime.

        `speed` is what the board has learned of the model. `prefill_s` is the predicted time of the prompt: an abort cannot cut it short everywhere. An
        engine that is silent for longer than `silence` hangs, and is killed.
        """
        async with asyncio.TaskGroup() as tasks:
            lease = tasks.create_task(self._renew())
            try:
                await self._execute(residency, saved, speed, prefill_s, silence)
            except RkllamaError as error:
                self.failure = error
            finally:
                await self._end()
                lease.cancel()
                self.over.set()

    async def _execute(
        self,
        residency: Residency,
        saved: SavedContexts,
        speed: Speed,
        prefill_s: float,
        silence: Silence,
    ) -> None:
        before = residency.get(self.job.model.digest)
        entry = await self._acquire(residency)
        if entry is None:
            return
        self.acquired = True
        if entry is not before and entry.engine is not None:
            self.load_s = entry.load_s
            self.load_evicted = entry.evicted
        try:
            if self._unwanted.is_set():
                return
            saving = saved.plan(self.ticket, entry, speed) if self._prompts else None
            if self._prompts:
                # From now on others know what it will hold when it is free.
                entry.holds = tuple(link.hash for link in self.ticket.chain)
                residency.changed()
            await self._generate(entry, saving, prefill_s, silence)
            if saving is not None:
                await saved.note(self.ticket, entry, saving, self.ended)
        finally:
            if self._prompts and not self._read:
                entry.holds = ()
            await residency.release(entry)

    async def _acquire(self, residency: Residency) -> Resident | None:
        """The model, ready; None if the run became unwanted first: then its load is given up."""
        acquiring = asyncio.ensure_future(residency.acquire(self.job))
        unwanted = asyncio.ensure_future(self._unwanted.wait())
        try:
            await asyncio.wait((acquiring, unwanted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            unwanted.cancel()
            if not acquiring.done():
                acquiring.cancel()
                await asyncio.wait((acquiring,))
        if acquiring.cancelled():
            return None
        try:
            return acquiring.result()
        except RuntimeFailedError as error:
            raise LoadFailedError(error.message) from error

    async def _generate(
        self, entry: Resident, saving: Saving | None, prefill_s: float, silence: Silence
    ) -> None:
        engine = entry.engine
        if engine is None:
            raise EngineDiedError("the engine is gone")
        self._heard_at = monotonic()
        async with asyncio.TaskGroup() as tasks:
            watchers = (
                tasks.create_task(self._abort_when_unwanted(entry, prefill_s)),
                tasks.create_task(self._kill_when_silent(engine, silence)),
            )
            try:
                self.ended = await engine.run(
                    encode(self.job),
                    self._keep,
                    partial(self._keep_last, entry, saving),
                    saving=saving,
                )
            except RkllamaError as error:
                # Inside the group it would come out as an ExceptionGroup.
                self.failure = error
            for watcher in watchers:
                watcher.cancel()

    async def _abort_when_unwanted(self, entry: Resident, prefill_s: float) -> None:
        await self._unwanted.wait()
        engine = entry.engine
        if engine is None:
            return
        engine.abort()
        await asyncio.sleep(JOIN_S + prefill_s)
        log.error("run did not end after its abort", extra=self._named)
        engine.kill()

    async def _kill_when_silent(self, engine: EngineProcess, silence: Silence) -> None:
        while True:
            may_s = silence.next_s if self.answering else silence.first_s
            if self._told:
                may_s = SAVE_S
            left_s = self._heard_at + may_s - monotonic()
            if left_s <= 0:
                log.error("engine hangs", extra={**self._named, "silent_s": may_s})
                engine.kill()
                return
            await asyncio.sleep(left_s)

    async def _keep(self, chunk: bytes) -> None:
        self._heard_at = monotonic()
        await self._put(chunk)

    async def _keep_last(self, entry: Resident, saving: Saving | None, chunk: bytes) -> None:
        self._heard_at = monotonic()
        # A model that goes with this run is gone before its client hears the end.
        if saving is None or not saving.save_to or entry.keep_alive_s == 0:
            self._last = chunk
            return
        self._told = True
        await self._put(chunk)

    async def _put(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        await self._bus.publish(self._reply, chunk)

    @property
    def _complete(self) -> bool:
        """Whether the engine sent a terminal chunk."""
        return self.ended is not None and not self.ended.aborted

    async def _end(self) -> None:
        """Close the answer: with the failure, if it had no terminal chunk and anybody wants to know."""
        error = None if self._unwanted.is_set() else self.failure
        if self._last is not None:
            await self._put(self._last)
        elif error is not None and not self._told and not self._complete:
            chunk = Chunk(seq=len(self._chunks), error_code=error.code, error_message=error.message)
            await self._put(encode_chunk(chunk))

    async def replay(self, from_seq: int) -> None:
        """Publish again what the gateway lacks."""
        for chunk in self._chunks[max(0, from_seq) :]:
            await self._bus.publish(self._reply, chunk)

    async def _renew(self) -> None:
        subject = self._subjects.gateway(self._gateway_id, self._worker_id, GatewayVerb.LEASE)
        unanswered_s = 0.0
        # A job that is handed over is held until its runtime is joined.
        while self._released or not self._unwanted.is_set():
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
                    log.warning("gateway lost", extra=self._named)
                    self.cancel()
                    return
                continue
            unanswered_s = 0.0
            if not reply.wanted:
                self.cancel()
                return
            await asyncio.sleep(LEASE_INTERVAL_S)

    async def report_finished(self) -> None:
        """Tell the gateway that the attempt is over, until it has every chunk, for a minute at most."""
        subject = self._subjects.gateway(self._gateway_id, self._worker_id, GatewayVerb.FINISHED)
        message = Finished(
            job_id=self.job.job_id,
            attempt=self.attempt,
            worker_id=self._worker_id,
            last_seq=self.last_seq,
            reason="released" if self._released and not self._complete else "ended",
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
