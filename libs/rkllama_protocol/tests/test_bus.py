"""The bus against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest
from rkllama_protocol.beats import BEAT_LOST_S, Observer
from rkllama_protocol.bus import Bus, log
from rkllama_protocol.errors import ModelNotFoundError, RkllamaError, UnreachableError
from rkllama_protocol.messages import WorkerBeat

from tests.broker import Broker
from tests.noticed import noticed


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as connected,
    ):
        yield connected


async def test_an_answer_comes_back(bus: Bus, prefix: str) -> None:
    await bus.answer(f"{prefix}.echo", lambda _, data: data + b"!")

    assert await bus.request(f"{prefix}.echo", b"hi", timeout_s=2) == b"hi!"


async def test_an_error_comes_back_as_what_it_was(bus: Bus, prefix: str) -> None:
    async def refuse(_: bytes) -> bytes:
        raise ModelNotFoundError("no such\nmodel")

    await bus.serve(f"{prefix}.refuse", refuse)

    with pytest.raises(ModelNotFoundError, match="no such model"):
        await bus.request(f"{prefix}.refuse", b"", timeout_s=2)


async def test_a_bug_in_one_request_is_told_and_ends_nothing(bus: Bus, prefix: str) -> None:
    async def stumble(data: bytes) -> bytes:
        return str(1 // int(data)).encode()

    await bus.serve(f"{prefix}.divide", stumble)

    with pytest.raises(RkllamaError, match="ZeroDivisionError"):
        await bus.request(f"{prefix}.divide", b"0", timeout_s=2)
    assert await bus.request(f"{prefix}.divide", b"1", timeout_s=2) == b"1"


async def test_nobody_there_is_said_at_once(bus: Bus, prefix: str) -> None:
    with pytest.raises(UnreachableError, match="nobody"):
        await bus.request(f"{prefix}.nobody", b"", timeout_s=20)


async def test_a_request_that_is_cancelled_as_its_answer_comes_ends_cancelled(
    bus: Bus, prefix: str
) -> None:
    """Whoever cancelled it waits for its end, and would wait for whatever the task does next."""
    asking: asyncio.Task[bytes]

    def cancel(_: str, data: bytes) -> None:
        if data == b"answer":
            asking.cancel()

    # Answers travel on inboxes: this hears each one too, just before or just behind the request.
    await bus.subscribe("_INBOX.>", cancel)
    await bus.answer(f"{prefix}.echo", lambda _, __: b"answer")
    tasks = []
    for _ in range(50):
        asking = asyncio.create_task(bus.request(f"{prefix}.echo", b"", timeout_s=20))
        await asyncio.wait({asking})
        tasks.append(asking)

    cancelled = [task for task in tasks if task.cancelling()]
    assert cancelled
    assert all(task.cancelled() for task in cancelled)


async def test_requests_of_one_server_run_side_by_side(bus: Bus, prefix: str) -> None:
    """A slow request must not hold up the next one, or a pull would stop every `show`."""
    go = asyncio.Event()

    async def wait(data: bytes) -> bytes:
        if data == b"slow":
            await go.wait()
        else:
            go.set()
        return data

    await bus.serve(f"{prefix}.wait", wait)
    slow = asyncio.ensure_future(bus.request(f"{prefix}.wait", b"slow", timeout_s=10))
    await bus.request(f"{prefix}.wait", b"quick", timeout_s=10)

    assert await slow == b"slow"


async def test_messages_arrive_in_order(bus: Bus, prefix: str) -> None:
    heard: list[bytes] = []
    done = asyncio.Event()

    def take(_: str, data: bytes) -> None:
        heard.append(data)
        if data == b"499":
            done.set()

    await bus.subscribe(f"{prefix}.count", take)
    for number in range(500):
        await bus.publish(f"{prefix}.count", b"%d" % number)
    await done.wait()

    assert heard == [b"%d" % number for number in range(500)]


async def test_a_broker_that_restarts_is_found_again(broker: Broker, prefix: str) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(broker.url, name="test", tasks=tasks) as bus,
    ):
        found = asyncio.Event()
        bus.on_reconnect(found.set)
        await bus.answer(f"{prefix}.echo", lambda _, data: data)
        broker.kill()
        with pytest.raises(UnreachableError):
            await bus.request(f"{prefix}.echo", b"lost", timeout_s=0.5)
        with pytest.raises(UnreachableError, match=r"^the broker is unreachable$"):
            await bus.request(f"{prefix}.echo", b"lost", timeout_s=0.5)
        await bus.publish(f"{prefix}.echo", b"dropped")
        broker.start()
        await found.wait()

        assert bus.connected
        assert await bus.request(f"{prefix}.echo", b"hi", timeout_s=5) == b"hi"


@pytest.mark.parametrize("repeat", [True, False])
async def test_a_question_that_a_restart_lost_is_asked_again_if_it_may_be(
    broker: Broker, prefix: str, *, repeat: bool
) -> None:
    """It is on its way when the broker dies; whoever answers is back a moment later than the asker."""
    question, asked, found = WorkerBeat(worker_id="w", ready=True), asyncio.Event(), asyncio.Event()
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(broker.url, name="test", tasks=tasks) as bus,
    ):
        bus.on_reconnect(found.set)
        async with await Bus.connect(broker.url, name="deaf", tasks=tasks) as peer:
            await peer.subscribe(f"{prefix}.ask", lambda *_: asked.set())
            await peer.flush()
            asking = asyncio.ensure_future(
                bus.ask(f"{prefix}.ask", question, WorkerBeat, timeout_s=2.5, repeat=repeat)
            )
            await asked.wait()
        broker.kill()
        broker.start()
        await found.wait()
        async with await Bus.connect(broker.url, name="peer", tasks=tasks) as peer:
            await peer.answer(f"{prefix}.ask", lambda _, data: data)
            (answer,) = await asyncio.gather(asking, return_exceptions=True)

    assert answer == question if repeat else isinstance(answer, UnreachableError)


async def test_a_broker_that_stands_still_is_as_one_that_is_gone_until_it_goes_on(
    broker: Broker, prefix: str
) -> None:
    """What was said meanwhile arrives late, and what was waited for in vain takes nobody's hearing."""
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(broker.url, name="test", tasks=tasks) as bus,
    ):
        again, late = asyncio.Event(), asyncio.Event()
        bus.on_reconnect(again.set)
        await bus.answer(f"{prefix}.echo", lambda _, data: data)
        await bus.subscribe(f"{prefix}.late", lambda _, __: late.set())
        await bus.flush()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                while bus.connected:
                    await bus.flush()
            await bus.publish(f"{prefix}.late", b"")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        async with asyncio.timeout(10):
            await again.wait()
            await late.wait()

        assert bus.connected
        assert await bus.request(f"{prefix}.echo", b"hi", timeout_s=5) == b"hi"


def test_silence_makes_a_process_lost_but_not_our_own_deafness() -> None:
    now = 0.0
    observer = Observer(WorkerBeat, clock=lambda: now)
    observer.note("w", WorkerBeat(worker_id="w", ready=True))
    now = BEAT_LOST_S - 0.1
    assert observer.living()
    observer.forgive()
    now += BEAT_LOST_S - 0.1
    assert [age_s for _, age_s in observer.heard()] == [now]
    now += 0.2

    assert observer.living() == []


async def test_a_broker_that_is_not_there_is_named_in_the_log() -> None:
    """Who started this process with a wrong address sees why nothing happens, and no password."""
    with socket.socket() as nobody, noticed(log, "broker not reached") as said:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            url = f"nats://user:secret@{address}"
            connecting = tasks.create_task(Bus.connect(url, name="test", tasks=tasks))
            record = vars(await said)
            connecting.cancel()

    assert record["url"] == address
    assert "ConnectionRefusedError" in record["reason"]
    assert "secret" not in str(record)
