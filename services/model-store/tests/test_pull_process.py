"""Pulls by the real process: killed in the middle, and larger than its memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rkllama_protocol.bus import Bus

from .hub_server import of_seed
from .soak_pulls import MEMORY_BYTES, MIB, kill_pulls, pull_large


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with (
        asyncio.TaskGroup() as tasks,
        await Bus.connect(nats_url, name="test", tasks=tasks) as bus,
    ):
        yield bus


@pytest.mark.timeout(180)
async def test_ten_kills_leave_whole_models_and_a_part(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await kill_pulls(
        tmp_path, bus, nats_url=nats_url, prefix=prefix, kills=10, seed=4, megabytes=16
    )


async def test_memory_does_not_grow_with_the_file(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    content = of_seed(1, 256 * MIB)
    peak = await pull_large(
        tmp_path, bus, nats_url=nats_url, prefix=prefix, content=content, timeout_s=50.0
    )

    assert peak < MEMORY_BYTES
