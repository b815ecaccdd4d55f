"""Which answers of the broker are still waited for."""

from __future__ import annotations

import asyncio

from rkllama_protocol.liveness import Liveness, log

from tests.noticed import noticed

HANG_S = 30.0


async def test_what_is_asked_on_a_new_connection_is_answered_though_nobody_said_that_it_is_there() -> (
    None
):
    """The one before the loss never is. An answer to what was given up would end all reading."""
    pong = asyncio.Event()

    async def ping() -> bool:
        await pong.wait()
        return True

    liveness = Liveness(ping, connected=lambda: True, back=lambda: None)
    before = liveness.ping()
    liveness.lost()
    between = liveness.answers
    after = liveness.ping()
    liveness.found()
    pong.set()
    await asyncio.wait({before, after})

    assert not between
    assert liveness.answers
    assert before.cancelled()
    assert after.result()


async def test_only_an_answer_brings_a_silent_broker_back() -> None:
    """A question that failed is none, on a connection that lives on too; the next one may be answered."""
    asked: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()

    async def ping() -> bool:
        answer = asyncio.get_running_loop().create_future()
        asked.put_nowait(answer)
        return await answer

    back = asyncio.Event()
    with noticed(log, "broker does not answer") as silence:
        async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as tasks:
            liveness = Liveness(ping, connected=lambda: True, back=back.set)
            watching = tasks.create_task(liveness.watch())
            silent = await asked.get()
            await silence
            silent.set_result(False)
            again = await asked.get()
            failed = liveness.answers or back.is_set()
            again.set_result(True)
            await back.wait()
            watching.cancel()

    assert not failed
    assert liveness.answers
