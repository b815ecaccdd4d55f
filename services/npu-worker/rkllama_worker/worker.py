"""The worker: one board, one run at a time. Everything here happens on one event loop.

offers ----> market ----> claim ----> Run ----> chunks
               ^                       |
beats <--> boards <---- residency <----+
"""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from time import monotonic

from rkllama_policy.cost import (
    answer_tokens,
    decode_s,
    load_s,
    prefill_s,
    prompt_tokens,
    weights_bytes,
)
from rkllama_protocol import codec
from rkllama_protocol.beats import Observer
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import WorkerLostError
from rkllama_protocol.messages import (
    Accepted,
    Cancel,
    Found,
    Keep,
    Replay,
    RunningJob,
    Speed,
    Ticket,
    Unload,
    WorkerBeat,
)
from rkllama_protocol.subjects import Subjects, WorkerVerb

from rkllama_worker.learning import learned
from rkllama_worker.market import Market
from rkllama_worker.metrics import Metrics
from rkllama_worker.residency import Residency
from rkllama_worker.run import Run
from rkllama_worker.runtimes import Offered

log = logging.getLogger(__name__)

BEAT_S = 1.0
EARLY_CANCEL_S = 5.0
"""How long a cancel for an attempt not yet known here is remembered."""
LAST_WORD_S = 1.0
"""How long a worker that has drained waits for its gateways to have every chunk."""
FAILED_LOAD_S = 10.0
"""How long this board refuses a model that failed to load, before it tries again."""


class Worker:
    """One board. `run` claims and runs jobs until `stop` is set, then drains."""

    def __init__(
        self,
        *,
        worker_id: str,
        bus: Bus,
        subjects: Subjects,
        tasks: asyncio.TaskGroup,
        runtimes: Offered,
        models_dir: Path,
        memory_limit_bytes: int,
        keep_alive_s: float,
        load_timeout_s: float,
        drain_timeout_s: float,
        http_url: str,
        metrics: Metrics,
    ) -> None:
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._tasks = tasks
        self._runtimes = runtimes.formats
        self._memory_limit_bytes = memory_limit_bytes
        self._drain_timeout_s = drain_timeout_s
        self._http_url = http_url
        self._metrics = metrics
        self._news = asyncio.Event()
        self._beat_due = asyncio.Event()
        self._residency = Residency(
            blobs=models_dir / "blobs",
            limit_bytes=memory_limit_bytes,
            keep_alive_s=keep_alive_s,
            load_timeout_s=load_timeout_s,
            npu=runtimes.npu,
            changed=self._changed,
        )
        self._market = Market(worker_id=worker_id, bus=bus, subjects=subjects, news=self._news)
        self._boards = Observer(WorkerBeat)
        self._speeds: dict[str, Speed] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._runs: dict[tuple[str, int], Run] = {}
        self._current: Run | None = None
        self._current_left_s = 0.0
        self._early_cancels: dict[tuple[str, int], float] = {}
        self._ready = False
        self._draining = False

    # ------------------------------------------------------------------ what others see

    def beat(self) -> WorkerBeat:
        """How this board is, this instant."""
        now = monotonic()
        self._failed = {k: v for k, v in self._failed.items() if now - v[1] < FAILED_LOAD_S}
        return WorkerBeat(
            worker_id=self._worker_id,
            ready=self._ready,
            draining=self._draining,
            runtimes=self._runtimes,
            memory_bytes=self._memory_limit_bytes,
            models=tuple(entry.as_message() for entry in self._residency),
            running=self._running(now),
            speeds=tuple(self._speeds.values()),
            failed={digest: reason for digest, (reason, _) in self._failed.items()},
            http_url=self._http_url,
        )

    def not_ready(self) -> str:
        """Why this worker takes no jobs, or empty."""
        if not self._bus.connected:
            return "the broker is unreachable"
        if self._draining:
            return "draining"
        return "" if self._ready else "starting"

    def _running(self, now: float) -> RunningJob | None:
        run = self._current
        if run is None:
            return None
        left = max(0.0, self._current_left_s - (now - run.started_at))
        return RunningJob(job_id=run.job.job_id, model=run.job.model.digest, left_s=left)

    def _changed(self) -> None:
        self._news.set()
        self._beat_due.set()

    # ------------------------------------------------------------------ the loop

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set; then finish what runs within the drain time, and unload."""
        await self._listen()
        beats = self._tasks.create_task(self._publish_beats())
        expiry = self._tasks.create_task(self._expire())
        stopping = self._tasks.create_task(self._note_stop(stop))
        self._ready = True
        self._changed()
        log.info(
            "worker ready",
            extra={
                "worker_id": self._worker_id,
                "runtimes": self._runtimes,
                "http_url": self._http_url,
            },
        )
        while not stop.is_set():
            self._news.clear()
            choice = self._market.choose(self.beat(), self._boards.living())
            if choice.ticket is not None:
                await self._take(choice.ticket)
                continue
            wait_s = None if math.isinf(choice.wait_s) else choice.wait_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue
        await stopping
        await self._drain()
        expiry.cancel()
        beats.cancel()

    async def _note_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._draining = True
        self._changed()

    async def _take(self, ticket: Ticket) -> None:
        job = await self._market.claim(ticket)
        if job is None:
            return
        run = Run(
            job,
            ticket.attempt,
            gateway_id=ticket.gateway_id,
            worker_id=self._worker_id,
            bus=self._bus,
            subjects=self._subjects,
        )
        self._runs[job.job_id, ticket.attempt] = run
        if self._early_cancels.pop((job.job_id, ticket.attempt), None) is not None:
            run.cancel()
        self._current = run
        self._tasks.create_task(self._execute(run))

    async def _execute(self, run: Run) -> None:
        job = run.job
        size = weights_bytes(job.model)
        speed = self._speeds.get(job.model.digest, Speed(model=job.model.digest))
        prefill = prefill_s(speed, size, prompt_tokens(job))
        expected = answer_tokens(speed, job.num_predict)
        load = 0.0 if self._residency.get(job.model.digest) else load_s(speed, size)
        self._current_left_s = load + prefill + decode_s(speed, size, expected)
        self._changed()
        try:
            await run.execute(self._residency, prefill_s=prefill)
        finally:
            self._current = None
            self._changed()
        self._speeds[job.model.digest] = learned(speed, load_s=run.load_s, ended=run.ended)
        if run.failure is not None and not run.acquired:
            self._failed[job.model.digest] = (run.failure.message, monotonic())
            self._changed()
        self._metrics.note(run)
        log.info(
            "job ended",
            extra={
                "job_id": job.job_id,
                "model": job.model.name,
                "attempt": run.attempt,
                "tokens": run.ended.generated_tokens if run.ended else 0,
                "aborted": bool(run.ended and run.ended.aborted),
                "failure": run.failure.code if run.failure else "",
            },
        )
        await run.report_finished()
        del self._runs[job.job_id, run.attempt]
        self._changed()

    async def _drain(self) -> None:
        if (run := self._current) is not None:
            log.info("draining", extra={"job_id": run.job.job_id})
            try:
                async with asyncio.timeout(self._drain_timeout_s):
                    await run.over.wait()
            except TimeoutError:
                run.interrupt(WorkerLostError("the worker was shut down"))
                await run.over.wait()
        await self._residency.close()
        try:
            # The last chunks are worth a moment, a gateway that is gone is not.
            async with asyncio.timeout(LAST_WORD_S):
                while self._runs:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            log.warning("a gateway did not hear the end", extra={"runs": len(self._runs)})

    async def _publish_beats(self) -> None:
        subject = self._subjects.beat("worker", self._worker_id)
        while True:
            self._beat_due.clear()
            await self._bus.say(subject, self.beat())
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._beat_due.wait()
            except TimeoutError:
                continue

    async def _expire(self) -> None:
        while True:
            await self._residency.expire()
            wait_s = self._residency.next_expiry_s()
            await asyncio.sleep(min(wait_s, BEAT_S))

    # ------------------------------------------------------------------ what others ask

    async def _listen(self) -> None:
        subjects, me = self._subjects, self._worker_id
        await self._bus.subscribe(subjects.beats("worker"), self._on_beat)
        await self._bus.answer(subjects.worker(me, WorkerVerb.STATUS), self._on_status)
        await self._bus.answer(subjects.worker(me, WorkerVerb.CANCEL), self._on_cancel)
        await self._bus.answer(subjects.worker(me, WorkerVerb.KEEP), self._on_keep)
        await self._bus.serve(subjects.worker(me, WorkerVerb.REPLAY), self._on_replay)
        await self._bus.serve(subjects.worker(me, WorkerVerb.UNLOAD), self._on_unload)
        await self._market.listen()

    def _on_beat(self, _: str, data: bytes) -> None:
        beat = codec.decode(WorkerBeat, data)
        if beat.worker_id != self._worker_id:
            self._boards.note(beat.worker_id, beat)
            self._news.set()

    def _on_status(self, _: bytes) -> bytes:
        return codec.encode(self.beat())

    def _on_cancel(self, data: bytes) -> bytes:
        cancel = codec.decode(Cancel, data)
        now = monotonic()
        key = (cancel.job_id, cancel.attempt)
        self._early_cancels = {
            k: at for k, at in self._early_cancels.items() if now - at < EARLY_CANCEL_S
        }
        if (run := self._runs.get(key)) is not None:
            run.cancel()
        else:
            self._early_cancels[key] = now
        return codec.encode(Accepted())

    def _on_keep(self, data: bytes) -> bytes:
        keep = codec.decode(Keep, data)
        return codec.encode(Found(found=self._residency.keep(keep.model, keep.keep_alive_s)))

    async def _on_replay(self, data: bytes) -> bytes:
        replay = codec.decode(Replay, data)
        if (run := self._runs.get((replay.job_id, replay.attempt))) is not None:
            await run.replay(replay.from_seq)
        return codec.encode(Accepted())

    async def _on_unload(self, data: bytes) -> bytes:
        entry = self._residency.get(codec.decode(Unload, data).model)
        if entry is not None:
            await self._residency.unload(entry)
        return codec.encode(Found(found=entry is not None))
