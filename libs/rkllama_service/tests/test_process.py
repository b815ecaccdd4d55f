"""How processes start and end, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter
from rkllama_service import http
from rkllama_service.process import SetupError, unless
from starlette.applications import Starlette

PARENT = """
import subprocess, sys, signal
from rkllama_service.tied import command
child = subprocess.Popen(command(["sleep", "1000"], signum=signal.SIGKILL), stdout=2)
print(child.pid, flush=True)
child.wait()
"""


def test_a_tied_process_ends_with_a_parent_that_was_killed() -> None:
    """The pipe is inherited by the child: its end is the end of the last process that holds it."""
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as end,
        subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=writer
        ) as parent,
    ):
        os.close(writer)
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.send_signal(signal.SIGKILL)

        assert end.read() == b""


def test_a_port_in_use_is_said_in_a_sentence() -> None:
    with http.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1 port {port}"):
            http.bind("127.0.0.1", port)


async def test_probes_answer_and_readiness_says_why_not() -> None:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    reason = ""
    app = Starlette(routes=http.probes(registry, lambda: reason))
    sock = http.bind("127.0.0.1", 0)
    url = http.url_of(sock)
    async with http.serving(app, [sock]), httpx2.AsyncClient(trust_env=False) as client:
        ready = await client.get(f"{url}/readyz")
        metrics = await client.get(f"{url}/metrics")
        reason = "the broker is unreachable"
        unready = await client.get(f"{url}/readyz")
        live = await client.get(f"{url}/livez")

    assert (ready.status_code, unready.status_code, live.status_code) == (200, 503, 200)
    assert unready.text == "the broker is unreachable\n"
    assert "things_total 1.0" in metrics.text


async def test_work_that_is_not_wanted_any_more_is_cancelled() -> None:
    stop = asyncio.Event()

    async def work() -> str:
        stop.set()
        await asyncio.Event().wait()
        return "never"

    assert await unless(stop, work()) is None
    assert await unless(asyncio.Event(), asyncio.sleep(0, "done")) == "done"
