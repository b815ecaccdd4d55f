"""Streams of progress over a real broker, with work that the test steers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import InvalidJobError, StorageError
from rkllama_protocol.messages import Progress
from rkllama_protocol.subjects import Subjects
from rkllama_store.records import EVERY_S, Emit, Record, Throttle
from rkllama_store.streams import Streams
from rkllama_transfer.threads import Interrupt, InterruptedWorkError, in_thread

TIMEOUT_S = 20.0


@dataclass
class Heard:
    """The streams, and what is published of the one called `s`."""

    streams: Streams
    records: asyncio.Queue[Progress] = field(default_factory=asyncio.Queue)

    async def next(self) -> Progress:
        return await asyncio.wait_for(self.records.get(), TIMEOUT_S)


@pytest.fixture
async def heard(nats_url: str, prefix: str) -> AsyncIterator[Heard]:
    subjects = Subjects(prefix)
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
    ):
        found = Heard(Streams(bus, subjects, tasks=tasks))
        await bus.subscribe(
            subjects.progress("s"),
            lambda _, data: found.records.put_nowait(codec.decode(Progress, data)),
        )
        yield found
        await found.streams.close()


async def test_a_silent_stream_says_that_it_is_still_there(heard: Heard) -> None:
    may_end = asyncio.Event()

    async def work(emit: Emit) -> None:
        emit(Record(status="begun"))
        await may_end.wait()

    heard.streams.start("s", work)
    begun, silent = await heard.next(), await heard.next()
    may_end.set()
    rest = [await heard.next()]
    while not rest[-1].done:
        rest.append(await heard.next())

    assert (begun.seq, begun.status) == (0, "begun")
    assert (silent.seq, silent.status, silent.done) == (1, "", False)
    assert rest[-1].status == "success"


async def test_what_goes_wrong_is_the_last_record(heard: Heard) -> None:
    async def work(_: Emit) -> None:
        raise StorageError("no space left on device")

    heard.streams.start("s", work)
    last = await heard.next()

    assert last.done
    assert last.error is not None
    assert (last.error.code, last.error.message) == ("storage", "no space left on device")


async def test_a_mistake_of_ours_ends_the_stream_and_nothing_else(heard: Heard) -> None:
    async def work(_: Emit) -> None:
        raise ZeroDivisionError

    heard.streams.start("s", work)
    last = await heard.next()

    assert last.error is not None
    assert (last.error.code, last.error.message) == (
        "internal",
        "internal error: ZeroDivisionError",
    )


async def test_one_id_is_one_stream(heard: Heard) -> None:
    async def work(_: Emit) -> None:
        await asyncio.Event().wait()

    heard.streams.start("s", work)
    with pytest.raises(InvalidJobError, match="there is a stream s already"):
        heard.streams.start("s", work)


async def test_a_store_that_stops_says_so(heard: Heard) -> None:
    async def work(_: Emit) -> None:
        await asyncio.Event().wait()

    heard.streams.start("s", work)
    silent = await heard.next()
    await heard.streams.close()
    last = await heard.next()
    while not last.done:
        last = await heard.next()

    assert silent.status == ""
    assert last.error is not None
    assert last.error.code == "unreachable"


async def test_a_cancelled_caller_waits_for_the_threads_end() -> None:
    loop = asyncio.get_running_loop()
    begun, interrupt = asyncio.Event(), Interrupt()
    ended: list[str] = []

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                interrupt.check()
        except InterruptedWorkError:
            ended.append("tidied up")
            raise

    task = asyncio.ensure_future(in_thread(work, interrupt=interrupt))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == ["tidied up"]


def test_a_throttle_lets_the_first_through_and_then_one_each_time() -> None:
    now = [0.0]
    throttle = Throttle(clock=lambda: now[0])
    first, second = throttle.due(), throttle.due()
    now[0] = EVERY_S

    assert (first, second, throttle.due()) == (True, False, True)
