"""Work that several wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from rkllama_protocol.errors import RkllamaError, UpstreamError
from rkllama_transfer.sharing import Shared


class Bench:
    """Work that says and gives what a test wants, when it wants."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.shared: Shared[str, int] = Shared(tasks)
        self.tasks = tasks
        self.begun = 0
        self.stopped: list[str] = []
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.stopping = asyncio.Event()
        self.stop = asyncio.Event()

    def join(self, heard: list[int]) -> asyncio.Task[str]:
        return self.tasks.create_task(self.shared.join("key", self._work, heard.append))

    async def _work(self, say: Callable[[int], None]) -> str:
        self.begun += 1
        say(self.begun)
        self.started.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.stopping.set()
            await self.stop.wait()
            self.stopped.append("whole")
            raise
        return "done"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as tasks:
        yield Bench(tasks)


async def test_who_joins_hears_what_was_said_last(bench: Bench) -> None:
    first: list[int] = []
    second: list[int] = []
    one = bench.join(first)
    await bench.started.wait()
    two = bench.join(second)
    bench.finish.set()

    assert [await one, await two] == ["done", "done"]
    assert (first, second, bench.begun) == ([1], [1], 1)


async def test_what_ended_is_begun_anew(bench: Bench) -> None:
    bench.finish.set()
    await bench.join([])
    await bench.join([])

    assert bench.begun == 2


async def test_the_next_one_waits_until_the_abandoned_work_has_stopped(bench: Bench) -> None:
    """It still writes the file that the next one will write."""
    one = bench.join([])
    await bench.started.wait()
    one.cancel()
    await bench.stopping.wait()
    heard: list[int] = []
    two = bench.join(heard)
    bench.finish.set()
    bench.stop.set()

    assert await two == "done"
    assert (bench.stopped, bench.begun, heard) == (["whole"], 2, [2])


@pytest.mark.parametrize(
    ("raised", "text"),
    [(UpstreamError("no"), "no"), (ZeroDivisionError(), "internal error: ZeroDivisionError")],
)
async def test_everybody_hears_what_went_wrong(raised: Exception, text: str) -> None:
    async def fails(_: Callable[[int], None]) -> str:
        raise raised

    async with asyncio.TaskGroup() as tasks:
        shared: Shared[str, int] = Shared(tasks)
        with pytest.raises(RkllamaError, match=text):
            await shared.join("key", fails, lambda _: None)
