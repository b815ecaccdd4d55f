"""What the board that has a job is told of it: to stop, or to say chunks again. Nobody waits for that."""

from __future__ import annotations

import asyncio
import logging

from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Accepted, Cancel, Replay
from rkllama_protocol.subjects import Subjects, WorkerVerb

from rkllama_gateway.job import HeldJob

log = logging.getLogger(__name__)

TIMEOUT_S = 1.0


class Orders:
    """A gateway's orders to single boards."""

    def __init__(self, *, bus: Bus, subjects: Subjects, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._subjects = subjects
        self._tasks = tasks
        self._replaying: set[str] = set()

    def cancel(self, held: HeldJob, worker_id: str) -> None:
        """Have `worker_id` stop its attempt; one that does not hear it is told when it renews its lease."""
        self._tasks.create_task(self._cancel(held, worker_id))

    def replay(self, held: HeldJob) -> None:
        """Have the job's board say again what is missing, unless it was just asked."""
        if held.job_id in self._replaying:
            return
        self._replaying.add(held.job_id)
        # By the time the task runs, the board may have lost the job.
        subject = self._subjects.worker(held.worker_id, WorkerVerb.REPLAY)
        missing = Replay(job_id=held.job_id, attempt=held.attempt, from_seq=held.next_seq)
        self._tasks.create_task(self._replay(subject, missing))

    async def _cancel(self, held: HeldJob, worker_id: str) -> None:
        try:
            await self._bus.ask(
                self._subjects.worker(worker_id, WorkerVerb.CANCEL),
                Cancel(job_id=held.job_id, attempt=held.attempt),
                Accepted,
                timeout_s=TIMEOUT_S,
            )
        except RkllamaError as error:
            log.info(
                "cancel unheard",
                extra={
                    "job_id": held.job_id,
                    "model": held.job.model.name,
                    "worker_id": worker_id,
                    "reason": error.message,
                },
            )

    async def _replay(self, subject: str, missing: Replay) -> None:
        try:
            await self._bus.ask(subject, missing, Accepted, timeout_s=TIMEOUT_S)
        except RkllamaError as error:
            log.info("replay unheard", extra={"job_id": missing.job_id, "reason": error.message})
        finally:
            self._replaying.discard(missing.job_id)
