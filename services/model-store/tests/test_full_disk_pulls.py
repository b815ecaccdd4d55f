"""A disk that fills up while a pull runs: said so, nothing harmed, and gone on with later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rkllama_store.folder import owned
from rkllama_store.settings import HubSettings

from . import disk
from .hub_server import Gate, HubServer, of_seed

pytestmark = pytest.mark.system

MIB = 2**20
WEIGHTS = of_seed(3, 6 * MIB)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A store on a file system of eight mebibytes."""
    with disk.small(tmp_path / "disk", mebibytes=8) as here, owned(here / "models"):
        yield here / "models"


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        yield server


@pytest.fixture
def hub_settings(hub: HubServer) -> HubSettings:
    return HubSettings(endpoint=hub.url, token=SecretStr(""), hub_offline=False)


async def test_a_pull_whose_room_somebody_else_takes(client: Any, hub: HubServer) -> None:
    repo = hub.repo("u/r")
    gate = Gate()
    repo.add("m-3B.rkllm", WEIGHTS, lfs=True).faults.gates.append((2 * MIB, gate))
    repo.add("tokenizer.json", b"{}")
    other = client.root.parent / "other"
    pulling = asyncio.ensure_future(client.pull("hf.co/u/r"))
    await gate.reached.wait()
    other.write_bytes(bytes(5 * MIB))
    gate.open.set()
    records = await pulling
    left = client.incoming()
    other.unlink()
    again = await client.pull("hf.co/u/r")

    assert records[-1].error.message == "no space left on device"
    assert left == {f"{WEIGHTS.sha256}.part"}
    assert again[-1].status == "success"
