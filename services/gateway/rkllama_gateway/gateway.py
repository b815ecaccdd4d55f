"""What the routes work with: the catalogue, the boards, the jobs, and whether all of it is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from datetime import UTC, datetime
from typing import TypedDict

from rkllama_policy.admission import Limits
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import RkllamaError, UnreachableError
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import GatewayBeat, QueuedModel
from rkllama_protocol.subjects import Subjects
from rkllama_service.metrics import add_broker

from rkllama_gateway.admission import Admission
from rkllama_gateway.boards import Boards
from rkllama_gateway.catalog import Catalog
from rkllama_gateway.gauges import add_gauges, running
from rkllama_gateway.jobs import Jobs
from rkllama_gateway.metrics import Metrics
from rkllama_gateway.offers import Offers
from rkllama_gateway.reading import Bodies
from rkllama_gateway.settings import Settings

log = logging.getLogger(__name__)

BEAT_S = 1.0
SEED_BITS = 31


class Facts(TypedDict):
    """What a job is frozen with, beside the request."""

    job_id: str
    now: str
    seed: int
    context_length: int


class Gateway:
    """One gateway process; its id is new at every start."""

    def __init__(self, settings: Settings, *, bus: Bus, tasks: asyncio.TaskGroup) -> None:
        self.settings = settings
        self.gateway_id = f"gw{secrets.token_hex(6)}"
        self.metrics = Metrics()
        self.draining = False
        self._bus = bus
        self._subjects = Subjects(settings.subject_prefix)
        self._tasks = tasks
        self._was_ready = False
        self.boards = Boards(bus=bus, subjects=self._subjects)
        self.catalog = Catalog(
            bus=bus,
            subjects=self._subjects,
            is_resident=self.boards.is_resident,
            unknown=self.metrics.unknown_model,
        )
        offers = Offers(
            gateway_id=self.gateway_id,
            bus=bus,
            subjects=self._subjects,
            boards=self.boards.observer,
            running_per_key=settings.max_running_per_key,
        )
        self.bodies = Bodies(
            most_bytes=settings.max_body_bytes, most_together_bytes=settings.max_bodies_bytes
        )
        self.admission = Admission(
            gateway_id=self.gateway_id,
            bus=bus,
            subjects=self._subjects,
            boards=self.boards.observer,
            offers=offers,
            limits=Limits(
                waiting=settings.max_waiting, waiting_per_key=settings.max_waiting_per_key
            ),
            max_wait_s=settings.max_wait_s,
        )
        self.jobs = Jobs(
            gateway_id=self.gateway_id,
            bus=bus,
            subjects=self._subjects,
            boards=self.boards.observer,
            offers=offers,
            admission=self.admission,
            metrics=self.metrics,
            tasks=tasks,
            no_worker_s=settings.no_worker_s,
        )
        add_gauges(
            self.metrics,
            jobs=self.jobs,
            admission=self.admission,
            boards=self.boards,
            catalog=self.catalog,
        )
        bus.on_reconnect(add_broker(self.metrics.registry, connected=lambda: bus.connected))

    async def start(self) -> list[asyncio.Task[None]]:
        """Listen to the bus; the tasks that go on until they are cancelled."""
        await self.catalog.listen()
        await self.boards.listen()
        await self.admission.listen()
        await self.jobs.listen()
        return [
            self._tasks.create_task(self.jobs.watch()),
            self._tasks.create_task(self._publish_beats()),
            self._tasks.create_task(self._forget_deleted()),
        ]

    def not_ready(self) -> str:
        """Why this gateway should get no requests now, or empty."""
        if not self._bus.connected:
            return "the broker is unreachable"
        if self.draining:
            return "draining"
        return "" if self.complete() else "waiting for the model store and the workers"

    def complete(self) -> bool:
        """Whether store and workers have all been ready at one time since the start."""
        if not self._was_ready:
            enough = self.boards.ready >= self.settings.expected_workers
            self._was_ready = enough and self.catalog.ready
        return self._was_ready

    def refuse_if_draining(self) -> None:
        """Raise `UnreachableError` while no new jobs are taken."""
        if self.draining:
            raise UnreachableError("the server is shutting down")

    async def drain(self) -> None:
        """Take nothing new, let open answers go on for the drain time, then end them visibly."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout_s):
                await self.jobs.idle.wait()
        self.jobs.fail_all(UnreachableError("the server was shut down in mid-answer"))

    def facts(self) -> Facts:
        """What a job that is made now is frozen with."""
        return {
            "job_id": self.new_job_id(),
            "now": self.now(),
            "seed": self.new_seed(),
            "context_length": self.settings.context_length,
        }

    def new_job_id(self) -> str:
        """An id no other job has."""
        return secrets.token_hex(10)

    def new_seed(self) -> int:
        """A seed for a request that brought none."""
        return secrets.randbits(SEED_BITS)

    def now(self) -> str:
        """What a job's template may print as the date, in every attempt."""
        return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def queues(self) -> list[QueuedModel]:
        """What waits, here and in every other gateway."""
        elsewhere = (row for beat in self.admission.others for row in beat.queues)
        return [*self.admission.queues(self.jobs.held()), *elsewhere]

    async def _publish_beats(self) -> None:
        subject = self._subjects.beat("gateway", self.gateway_id)
        while True:
            beat = GatewayBeat(
                gateway_id=self.gateway_id,
                ready=not self.not_ready(),
                waiting=self.jobs.counts()[JobState.WAITING],
                running=running(self.jobs),
                queues=self.admission.queues(self.jobs.held()),
            )
            await self._bus.say(subject, beat)
            await asyncio.sleep(BEAT_S)

    async def _forget_deleted(self) -> None:
        """Let go what no name means any more, its series and its memory, after each change, for ever."""
        while True:
            await self.catalog.changed.wait()
            self.catalog.changed.clear()
            used, resident = frozenset(self.metrics.models), self.boards.resident()
            try:
                models = await self.catalog.tags() if used or resident else ()
            except RkllamaError as error:
                log.debug("models not listed", extra={"reason": error.message})
                self.catalog.changed.set()
            else:
                self.metrics.forget(used.difference(model.name for model in models))
                for digest in resident.difference(model.digest for model in models):
                    await self.boards.unload(digest)
            # A client that creates a hundred models asks for no hundred lists.
            await asyncio.sleep(BEAT_S)
