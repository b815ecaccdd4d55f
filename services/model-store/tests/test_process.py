"""The real process: its first start, its end, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.messages import Accepted, DeleteRequest, StoreBeat, TagsReply, TagsRequest
from rkllama_protocol.subjects import StoreVerb, Subjects
from rkllama_store.folder import owned

TIMEOUT_S = 30.0


@pytest.fixture
def environment(tmp_path: Path, nats_url: str, prefix: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RKLLAMA_")} | {
        "RKLLAMA_DATA": str(tmp_path),
        "RKLLAMA_NATS_URL": nats_url,
        "RKLLAMA_STORE_SUBJECT_PREFIX": prefix,
    }


@asynccontextmanager
async def running(
    environment: dict[str, str], bus: Bus, subjects: Subjects
) -> AsyncIterator[asyncio.subprocess.Process]:
    ready = asyncio.Event()

    def on_beat(_: str, data: bytes) -> None:
        if codec.decode(StoreBeat, data).ready:
            ready.set()

    async with bus.subscribed(subjects.beats("store"), on_beat):
        await bus.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rkllama_store",
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.wait_for(ready.wait(), TIMEOUT_S)
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def test_a_new_store_has_the_bundled_model_until_it_is_deleted(
    environment: dict[str, str], nats_url: str, prefix: str
) -> None:
    subjects = Subjects(prefix)

    async def tags(bus: Bus) -> list[str]:
        subject = subjects.store(StoreVerb.TAGS)
        reply = await bus.ask(subject, TagsRequest(), TagsReply, timeout_s=TIMEOUT_S)
        return [model.name for model in reply.models]

    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
    ):
        async with running(environment, bus, subjects) as first:
            found = await tags(bus)
            subject = subjects.store(StoreVerb.DELETE)
            request = DeleteRequest(model="smollm2:135m")
            await bus.ask(subject, request, Accepted, timeout_s=TIMEOUT_S)
        async with running(environment, bus, subjects) as second:
            later = await tags(bus)

    assert (found, later) == (["smollm2:135m"], [])
    assert (first.returncode, second.returncode) == (0, 0)


async def test_a_store_killed_at_its_first_work_is_whole_after_the_next_start(
    environment: dict[str, str], nats_url: str, prefix: str, tmp_path: Path
) -> None:
    incoming, blobs = tmp_path / "models" / "incoming", tmp_path / "models" / "blobs"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rkllama_store", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    while not (names(incoming) | names(blobs)):
        assert process.returncode is None
        await asyncio.sleep(0)
    process.kill()
    await process.wait()
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
        running(environment, bus, Subjects(prefix)),
    ):
        subject = Subjects(prefix).store(StoreVerb.TAGS)
        reply = await bus.ask(subject, TagsRequest(), TagsReply, timeout_s=TIMEOUT_S)

    assert [model.name for model in reply.models] == ["smollm2:135m"]
    assert names(incoming) == set()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def refused(environment: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "rkllama_store"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    return run.stderr


def test_a_second_store_in_the_same_folder_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with owned(tmp_path / "models"):
        assert "another model store uses the folder" in refused(environment)


def test_a_folder_that_cannot_be_written_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("a file")

    assert "cannot write to the folder" in refused(environment)


def test_a_misspelt_variable_is_refused(environment: dict[str, str]) -> None:
    assert "RKLLAMA_STORE_BUNDLE" in refused(environment | {"RKLLAMA_STORE_BUNDLE": "no"})


async def test_a_store_that_waits_for_its_broker_can_be_stopped(
    environment: dict[str, str],
) -> None:
    nowhere = environment | {"RKLLAMA_NATS_URL": "nats://127.0.0.1:1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rkllama_store", env=nowhere, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    # Its first word: from then on the process handles signals.
    await process.stderr.readline()
    process.send_signal(signal.SIGTERM)

    assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
