"""What gateways and administrators ask of this board, and what is done about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic

from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Accepted, Cancel, Found, Keep, Replay, Unload, WorkerBeat
from rkllama_protocol.subjects import Subjects, WorkerVerb

from rkllama_worker.residency import Residency
from rkllama_worker.run import Run

log = logging.getLogger(__name__)

EARLY_CANCEL_S = 5.0
"""How long a cancel for an attempt not yet known here is remembered."""


class Orders:
    """Answers one board's subjects."""

    def __init__(
        self,
        *,
        worker_id: str,
        bus: Bus,
        subjects: Subjects,
        residency: Residency,
        runs: Mapping[tuple[str, int], Run],
        beat: Callable[[], WorkerBeat],
        drain: Callable[[], None],
    ) -> None:
        """`runs` are those that are not over for their gateways, by job and attempt."""
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._residency = residency
        self._runs = runs
        self._beat = beat
        self._drain = drain
        self._early_cancels: dict[tuple[str, int], float] = {}

    async def listen(self) -> None:
        """Answer from now on."""
        subjects, me = self._subjects, self._worker_id
        await self._bus.answer(subjects.worker(me, WorkerVerb.STATUS), self._on_status)
        await self._bus.answer(subjects.worker(me, WorkerVerb.DRAIN), self._on_drain)
        await self._bus.answer(subjects.worker(me, WorkerVerb.CANCEL), self._on_cancel)
        await self._bus.answer(subjects.worker(me, WorkerVerb.KEEP), self._on_keep)
        await self._bus.serve(subjects.worker(me, WorkerVerb.REPLAY), self._on_replay)
        await self._bus.serve(subjects.worker(me, WorkerVerb.UNLOAD), self._on_unload)

    def was_cancelled(self, run: Run) -> bool:
        """Whether a cancel for the run came before the run did."""
        return self._early_cancels.pop((run.job.job_id, run.attempt), None) is not None

    def _on_status(self, _: str, __: bytes) -> bytes:
        return codec.encode(self._beat())

    def _on_drain(self, _: str, __: bytes) -> bytes:
        log.info("told to drain", extra={"worker_id": self._worker_id})
        self._drain()
        return codec.encode(Accepted())

    def _on_cancel(self, _: str, data: bytes) -> bytes:
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

    def _on_keep(self, _: str, data: bytes) -> bytes:
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
