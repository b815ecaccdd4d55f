"""Two hundred clients that read a byte a second: the gateway holds little for them, and serves the rest.

The gateway is a process of its own, so that what it holds can be measured; boards and store are scripted,
so that much can be sent to everybody at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx2
import pytest
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Ticket
from rkllama_protocol.subjects import Subjects
from rkllama_service.tied import command

from services.gateway.tests.harness import MODEL, Attempt, ScriptedStore, ScriptedWorker, text
from tests.broker import Broker
from tests.stack import wait_until

SLOW = 200
OTHERS = 20
PIECE, PIECES = 2**14, 80
MIB = 2**20
MOST_HELD = 160 * MIB
"""64 MiB that jobs hold together; for each connection 64 KiB unsent and as much again in hand."""
ASK = b'{"model": "m", "prompt": "a long story"}'
REQUEST = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ASK),
    ASK,
)


class Board(ScriptedWorker):
    """Takes each job once: on a busy machine leases are lost, and what is offered again is no new job."""

    def _on_offer(self, subject: str, data: bytes) -> None:
        if codec.decode(Ticket, data).attempt == 1:
            super()._on_offer(subject, data)


@contextmanager
def gateway(broker: Broker, prefix: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Process id and address of a gateway."""
    settings = {
        "RKLLAMA_NATS_URL": broker.url,
        "RKLLAMA_DATA": str(folder),
        "RKLLAMA_GATEWAY_PORT": "0",
        "RKLLAMA_GATEWAY_SUBJECT_PREFIX": prefix,
        "RKLLAMA_GATEWAY_SLOW_CLIENT_S": "5",
    }
    log = folder / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command([sys.executable, "-m", "rkllama_gateway"], signum=signal.SIGKILL),
            env=os.environ | settings,
            stderr=out,
            stdout=out,
        )
    try:
        wait_until("the gateway to listen", lambda: '"urls":"' in log.read_text())
        yield process.pid, log.read_text().split('"urls":"')[1].split('"')[0]
    finally:
        process.kill()
        process.wait()


def resident_bytes(pid: int, *, peak: bool = False) -> int:
    """Of a process, now or at most so far."""
    name = "VmHWM" if peak else "VmRSS"
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def slow_client(port: int) -> socket.socket:
    """Asks for a story, with a window of a few kilobytes to read it through."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(REQUEST)
    client.setblocking(False)
    return client


async def read_a_byte_a_second(clients: list[socket.socket]) -> None:
    while True:
        for client in clients:
            try:
                client.recv(1)
            except (BlockingIOError, ConnectionError):
                continue
        await asyncio.sleep(1)


async def tell(attempt: Attempt) -> None:
    for seq in range(PIECES):
        if attempt.unwanted.is_set():
            break
        await attempt.send(text(seq, "x" * PIECE))
        await asyncio.sleep(0)
    await attempt.worker.bus.flush()


async def beating(*parties: ScriptedStore | ScriptedWorker) -> None:
    while True:
        for party in parties:
            await party.publish_beat()
        await asyncio.sleep(0.5)


@pytest.mark.timeout(240)
async def test_two_hundred_slow_readers_cost_little_and_delay_nobody(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    with gateway(broker, prefix, tmp_path) as (pid, url):
        figures = await measured(broker, prefix, pid, url)
    sys.stdout.write(f"\n{figures}\n")

    assert figures.held_bytes < MOST_HELD
    assert "rkllama_requests_running 0.0" in figures.metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was seen."""

    held_bytes: int
    """By how much the gateway grew, at its largest."""
    alone_s: list[float]
    """What others' answers took before."""
    beside_s: list[float]
    """The same while two hundred hardly read."""
    metrics: str

    def __str__(self) -> str:
        alone, beside = (
            [f"{s * 1000:.0f}" for s in (median(each), max(each))]
            for each in (self.alone_s, self.beside_s)
        )
        return (
            f"{SLOW} slow readers, {SLOW * PIECES * PIECE / MIB:.0f} MiB for them: the gateway grew by "
            f"{self.held_bytes / MIB:.0f} MiB; others' answers took {beside[0]} ms (most {beside[1]}), "
            f"and {alone[0]} ms (most {alone[1]}) before"
        )


async def measured(broker: Broker, prefix: str, pid: int, url: str) -> Figures:
    subjects = Subjects(prefix)
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(broker.url, name="script", tasks=tasks) as bus,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=None) as bystander,
    ):
        store = ScriptedStore(bus=bus, subjects=subjects, model=MODEL)
        board = Board("w0", bus=bus, subjects=subjects, tasks=tasks, beat={})
        await store.listen()
        await board.listen()
        beats = tasks.create_task(beating(store, board))
        ready = False
        while not ready:
            ready = (await bystander.get("/readyz")).status_code == httpx2.codes.OK
        before = resident_bytes(pid)
        alone_s = [await answered(bystander, board) for _ in range(OTHERS)]
        with ExitStack() as stack:
            port = httpx2.URL(url).port or 0
            clients = [stack.enter_context(slow_client(port)) for _ in range(SLOW)]
            reading = tasks.create_task(read_a_byte_a_second(clients))
            attempts = [await board.take() for _ in range(SLOW)]
            await asyncio.gather(*(tell(attempt) for attempt in attempts))
            beside_s = [await answered(bystander, board) for _ in range(OTHERS)]
            held_bytes = resident_bytes(pid, peak=True) - before
            # Each is cut off, and its board is free.
            await asyncio.gather(*(attempt.unwanted.wait() for attempt in attempts))
            reading.cancel()
        metrics = (await bystander.get("/metrics")).text
        beats.cancel()
        for attempt in board.attempts:
            attempt.die()
    return Figures(held_bytes=held_bytes, alone_s=alone_s, beside_s=beside_s, metrics=metrics)


async def answered(bystander: httpx2.AsyncClient, board: ScriptedWorker) -> float:
    """Seconds that somebody else's short answer takes, whole and right."""
    began = time.monotonic()
    asked = asyncio.ensure_future(
        bystander.post("/api/generate", json={"model": "m", "prompt": "y", "stream": False})
    )
    await (await board.take()).say("hello")
    answer = await asked
    assert answer.json()["response"] == "hello"
    return time.monotonic() - began
