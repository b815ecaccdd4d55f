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

from rkllama_policy.learning import learned
from rkllama_protocol.beats import Observer, hear
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Speed, StoreBeat, Ticket, WorkerBeat
from rkllama_protocol.subjects import Subjects
from rkllama_service.metrics import add_broker

from rkllama_worker.cache import Cache
from rkllama_worker.fetcher import Fetcher
from rkllama_worker.market import Market
from rkllama_worker.metrics import BoardState, Metrics
from rkllama_worker.occupancy import Occupancy
from rkllama_worker.orders import Orders
from rkllama_worker.residency import Residency
from rkllama_worker.run import Run, measured
from rkllama_worker.runtimes import Offered
from rkllama_worker.saved import SavedContexts
from rkllama_worker.silence import allowed_silence, predicted_prefill_s

log = logging.getLogger(__name__)

BEAT_S = 1.0
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
        cache: Cache,
        saved: SavedContexts,
        memory_limit_bytes: int,
        max_models: int,
        keep_alive_s: float,
        load_timeout_s: float,
        drain_timeout_s: float,
        stall_s: float,
        http_url: str,
        metrics: Metrics,
    ) -> None:
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._tasks = tasks
        self._runtimes = runtimes.formats
        self._memory_limit_bytes = memory_limit_bytes
        self._max_models = max_models
        self._drain_timeout_s = drain_timeout_s
        self._stall_s = stall_s
        self._http_url = http_url
        self._metrics = metrics
        self._saved = saved
        self._news = asyncio.Event()
        self._beat_due = asyncio.Event()
        self._fetcher = Fetcher(
            shared=models_dir / "blobs",
            cache=cache,
            store_url=self._store_url,
            tasks=tasks,
            count=metrics.fetched,
            changed=self._changed,
        )
        self._residency = Residency(
            fetcher=self._fetcher,
            limit_bytes=memory_limit_bytes,
            max_models=max_models,
            keep_alive_s=keep_alive_s,
            load_timeout_s=load_timeout_s,
            npu=runtimes.npu,
            changed=self._changed,
        )
        self._market = Market(worker_id=worker_id, bus=bus, subjects=subjects, news=self._news)
        self._boards = Observer(WorkerBeat)
        self._stores = Observer(StoreBeat)
        self._speeds: dict[str, Speed] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._runs: dict[tuple[str, int], Run] = {}
        self._executing: set[asyncio.Task[None]] = set()
        self._occupancy = Occupancy(self._fetcher)
        self._orders = Orders(
            worker_id=worker_id,
            bus=bus,
            subjects=subjects,
            residency=self._residency,
            runs=self._runs,
            beat=self.beat,
            drain=self.drain,
        )
        self._ready = False
        self._draining = False
        self._stop = asyncio.Event()
        metrics.tell(
            state=self.state,
            residents=lambda: self._residency,
            memory_limit_bytes=memory_limit_bytes,
            saved_bytes=lambda: saved.size_bytes,
        )
        bus.on_reconnect(self._boards.forgive)
        bus.on_reconnect(self._stores.forgive)
        bus.on_reconnect(
            add_broker(metrics.registry, connected=lambda: bus.connected, worker_id=worker_id)
        )

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
            max_models=self._max_models,
            models=tuple(entry.as_message() for entry in self._residency),
            running=self._occupancy.as_message(),
            speeds=tuple(self._speeds.values()),
            saved=self._saved.hashes,
            failed={digest: reason for digest, (reason, _) in self._failed.items()},
            http_url=self._http_url,
            shares_store=self._fetcher.shares_store,
            blobs=self._fetcher.blobs,
            fetch_bytes_per_s=self._fetcher.bytes_per_s,
        )

    def state(self) -> BoardState:
        """What this board does, this instant."""
        if self._draining:
            return BoardState.DRAINING
        if not self._ready:
            return BoardState.STARTING
        run = self._occupancy.run
        if run is None:
            return BoardState.IDLE
        if not run.acquired:
            return BoardState.LOADING
        return BoardState.DECODE if run.answering else BoardState.PREFILL

    def not_ready(self) -> str:
        """Why this worker takes no jobs, or empty."""
        if not self._bus.connected:
            return "the broker is unreachable"
        if self._draining:
            return "draining"
        return "" if self._ready else "starting"

    def _store_url(self) -> str:
        """Where blobs are read; empty while no store is heard."""
        stores = sorted(self._stores.living(), key=lambda store: not store.ready)
        return stores[0].http_url.rstrip("/") if stores else ""

    def _changed(self) -> None:
        self._news.set()
        self._beat_due.set()

    # ------------------------------------------------------------------ the loop

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until `stop` is set; then finish what runs within the drain time, and unload."""
        async with self._fetcher:
            await self._saved.open()
            try:
                await self._run(stop)
            finally:
                await self._saved.close()

    async def _run(self, stop: asyncio.Event) -> None:
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
        while not self._stop.is_set():
            self._news.clear()
            choice = self._market.choose(self.beat(), self._boards.heard())
            if choice.ticket is not None:
                await self._take(choice.ticket)
                continue
            wait_s = None if math.isinf(choice.wait_s) else choice.wait_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue
        stopping.cancel()
        await self._drain()
        expiry.cancel()
        beats.cancel()

    async def _note_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.drain()

    def drain(self) -> None:
        """Claim nothing more, bring what runs to its end, unload and return from `run`."""
        self._stop.set()
        self._draining = True
        self._changed()

    async def _take(self, ticket: Ticket) -> None:
        job = await self._market.claim(ticket)
        if job is None:
            return
        run = Run(job, ticket, worker_id=self._worker_id, bus=self._bus, subjects=self._subjects)
        self._runs[job.job_id, ticket.attempt] = run
        if self._orders.was_cancelled(run):
            run.cancel()
        self._occupancy.begin(run, self.beat())
        executing = self._tasks.create_task(self._execute(run))
        self._executing.add(executing)
        executing.add_done_callback(self._executing.discard)

    async def _execute(self, run: Run) -> None:
        job, ticket = run.job, run.ticket
        speed = self._speeds.get(job.model.digest, Speed(model=job.model.digest))
        self._changed()
        try:
            await run.execute(
                self._residency,
                self._saved,
                speed=speed,
                prefill_s=predicted_prefill_s(ticket, speed),
                silence=allowed_silence(job, ticket, speed, stall_s=self._stall_s),
            )
        finally:
            self._occupancy.end()
            self._changed()
        self._speeds[job.model.digest] = learned(speed, measured(run.load_s, run.ended))
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
        if (run := self._occupancy.run) is not None:
            log.info("draining", extra={"job_id": run.job.job_id, "model": run.job.model.name})
            try:
                async with asyncio.timeout(self._drain_timeout_s):
                    await run.over.wait()
            except TimeoutError:
                run.hand_over()
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
            for executing in self._executing:
                executing.cancel()

    async def _publish_beats(self) -> None:
        subject = self._subjects.beat("worker", self._worker_id)
        while True:
            self._beat_due.clear()
            if not self._fetcher.shares_store:
                await self._fetcher.look()
            await self._bus.say(subject, self.beat())
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._beat_due.wait()
            except TimeoutError:
                continue

    async def _expire(self) -> None:
        while True:
            await self._residency.expire()
            await self._saved.expire()
            wait_s = self._residency.next_expiry_s()
            await asyncio.sleep(min(wait_s, BEAT_S))

    # ------------------------------------------------------------------ what others say

    async def _listen(self) -> None:
        subjects = self._subjects
        await self._bus.subscribe(subjects.beats("worker"), self._on_beat)
        await self._bus.subscribe(subjects.beats("store"), self._on_store_beat)
        await self._orders.listen()
        await self._market.listen()

    def _on_beat(self, subject: str, data: bytes) -> None:
        beat = hear(WorkerBeat, subject, data)
        if beat.worker_id != self._worker_id:
            self._boards.note(beat.worker_id, beat)
            self._news.set()

    def _on_store_beat(self, subject: str, data: bytes) -> None:
        beat = hear(StoreBeat, subject, data)
        self._stores.note(beat.store_id, beat)
