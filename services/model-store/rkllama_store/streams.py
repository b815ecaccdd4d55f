"""Streams of progress: the records of one pull or create, published to whoever asked for it.

Records are numbered from 0, and there is one every second at least, so that the asker notices a
store that has died. The last one has `done`: `success`, or the error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import InvalidJobError, RkllamaError, UnreachableError
from rkllama_protocol.messages import Fault, Progress
from rkllama_protocol.subjects import Subjects

from rkllama_store.records import Emit, Record

log = logging.getLogger(__name__)

SILENCE_S = 1.0
"""After so long without a record an empty one is sent."""

Work = Callable[[Emit], Awaitable[None]]


class Streams:
    """The streams that run; their tasks live in `tasks`."""

    def __init__(self, bus: Bus, subjects: Subjects, *, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._subjects = subjects
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    def start(self, stream_id: str, work: Work) -> None:
        """Do `work`, and publish what it says.

        Raises:
            InvalidJobError: There is such a stream already.
        """
        if stream_id in self._running:
            raise InvalidJobError(f"there is a stream {stream_id} already")
        task = self._tasks.create_task(self._play(stream_id, work))
        self._running[stream_id] = task
        task.add_done_callback(lambda _: self._running.pop(stream_id))

    def cancel(self, stream_id: str) -> None:
        """Nobody listens to this stream any more; one that is not there is over."""
        if (task := self._running.get(stream_id)) is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop every stream, and tell its listener."""
        self._stopping = True
        tasks = set(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _play(self, stream_id: str, work: Work) -> None:
        subject = self._subjects.progress(stream_id)
        records: asyncio.Queue[Record | None] = asyncio.Queue()
        producing = self._tasks.create_task(_produce(work, records))
        seq = 0
        try:
            try:
                while (record := await _next(records)) is not None:
                    await self._bus.say(subject, _progress(seq, record))
                    seq += 1
                fault = await producing
            finally:
                producing.cancel()
                await asyncio.wait({producing})
        except asyncio.CancelledError:
            if self._stopping:
                gone = Fault(code=UnreachableError.code, message="the model store is stopping")
                await self._bus.say(subject, Progress(seq=seq, error=gone, done=True))
            raise
        status = "" if fault else "success"
        await self._bus.say(subject, Progress(seq=seq, status=status, error=fault, done=True))


_STILL_HERE = Record(status="")


async def _produce(work: Work, records: asyncio.Queue[Record | None]) -> Fault | None:
    try:
        await work(records.put_nowait)
    except RkllamaError as error:
        return Fault(code=error.code, message=error.message)
    except Exception as error:
        log.exception("stream failed")
        return Fault(code=RkllamaError.code, message=f"internal error: {type(error).__name__}")
    finally:
        records.put_nowait(None)
    return None


async def _next(records: asyncio.Queue[Record | None]) -> Record | None:
    try:
        # Not `wait_for`: Python 3.11's loses a cancellation that comes together with a record.
        async with asyncio.timeout(SILENCE_S):
            return await records.get()
    except TimeoutError:
        return _STILL_HERE


def _progress(seq: int, record: Record) -> Progress:
    return Progress(
        seq=seq,
        status=record.status,
        digest=record.digest,
        total=record.total,
        completed=record.completed,
    )
