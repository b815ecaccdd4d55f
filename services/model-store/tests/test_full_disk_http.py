"""A disk that is full or refuses, as a client sees it: real gateway, broker and store processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.stack import Stack

from . import disk
from .hub_server import Gate, HubServer, of_seed

pytestmark = pytest.mark.system

MIB = 2**20
FULL = "no space left on device"
READ_ONLY = "the disk refuses: Read-only file system"
WEIGHTS = of_seed(3, 6 * MIB)
SMALL = of_seed(4, MIB)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight mebibytes."""
    with disk.small(tmp_path / "disk", mebibytes=8) as here:
        yield here


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        for name, weights in (("u/large", WEIGHTS), ("u/small", SMALL)):
            repo = server.repo(name)
            repo.add("m-3B.rkllm", weights, lfs=True)
            repo.add("tokenizer.json", b"{}")
        yield server


@dataclass
class User:
    """A client, and what it finds on the disk."""

    web: httpx2.AsyncClient
    models: Path

    async def last(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The last record of a stream."""
        answer = await self.web.post(path, json=body)
        assert answer.status_code == 200
        found: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
        return found

    async def pull(self, model: str) -> dict[str, Any]:
        return await self.last("/api/pull", {"model": model})

    async def tags(self) -> list[str]:
        answer = await self.web.get("/api/tags")
        return sorted(model["name"] for model in answer.json()["models"])

    async def verified(self) -> bool:
        """Whether every blob of every model is what its digest says."""
        return await self.last("/api/verify", {}) == {"status": "success"}

    def incoming(self) -> set[str]:
        return {path.name for path in (self.models / "incoming").iterdir()}

    def blobs(self) -> set[str]:
        return {path.name for path in (self.models / "blobs").iterdir()}


@pytest.fixture
async def user(room: Path, hub: HubServer, tmp_path: Path) -> AsyncIterator[User]:
    """A system whose store is on that file system; its logs are elsewhere."""
    env = {
        "RKLLAMA_DATA": str(room),
        "RKLLAMA_STORE_BUNDLED": "no",
        "RKLLAMA_PLATFORM": "rk3588",
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
    }
    folder = tmp_path / "logs"
    folder.mkdir()
    with Stack(folder, workers=0, env=env) as stack:
        async with httpx2.AsyncClient(base_url=stack.url, timeout=60.0, trust_env=False) as web:
            yield User(web=web, models=room / "models")


async def test_a_pull_that_cannot_fit_is_refused_before_it_begins(
    user: User, hub: HubServer
) -> None:
    hub.repos["u/large"].add("m-3B.rkllm", of_seed(3, 20 * MIB), lfs=True)
    last = await user.pull("hf.co/u/large")

    assert last["error"].startswith(f"{FULL}: m-3B.rkllm in u/large needs 21.0 MB, and ")
    assert hub.sent_bytes == 0
    assert (await user.tags(), await user.verified()) == ([], True)


async def test_a_pull_whose_room_somebody_takes_goes_on_when_it_is_free_again(
    user: User, room: Path, hub: HubServer
) -> None:
    await user.pull("hf.co/u/small")
    gate = Gate()
    hub.repos["u/large"].files["m-3B.rkllm"].faults.gates.append((2 * MIB, gate))
    pulling = asyncio.ensure_future(user.pull("hf.co/u/large"))
    await gate.reached.wait()
    part = user.models / "incoming" / f"{WEIGHTS.sha256}.part"
    while not (part.exists() and part.stat().st_size):
        await user.web.get("/")
    with disk.filled(room):
        gate.open.set()
        last = await pulling
        left, size = user.incoming(), part.stat().st_size
        unharmed = await user.tags(), await user.verified()
    hub.seen.clear()
    again = await user.pull("hf.co/u/large")

    assert last == {"error": FULL}
    assert left == {part.name}
    assert unharmed == (["hf.co/u/small:latest", "m:3b"], True)
    assert again == {"status": "success"}
    assert [seen.headers.get("range") for seen in hub.asked("bytes")] == [f"bytes={size}-"]
    assert (user.incoming(), await user.verified()) == (set(), True)


async def test_a_create_on_a_full_disk(user: User, room: Path) -> None:
    await user.pull("hf.co/u/small")
    before = user.blobs()
    wanted = {"model": "mine", "from": "hf.co/u/small", "system": "Be brief. " * 1000}
    with disk.filled(room):
        last = await user.last("/api/create", wanted)
        unharmed = await user.tags(), await user.verified(), user.incoming(), user.blobs()
    again = await user.last("/api/create", wanted)

    assert last == {"error": FULL}
    assert unharmed == (["hf.co/u/small:latest", "m:3b"], True, set(), before)
    assert again == {"status": "success"}
    assert "mine:latest" in await user.tags()


async def test_a_full_disk_is_freed_by_deleting(user: User, room: Path) -> None:
    await user.pull("hf.co/u/small")
    with disk.filled(room):
        for name in ("hf.co/u/small", "m:3b"):
            answer = await user.web.request("DELETE", "/api/delete", json={"model": name})
            assert answer.status_code == 200

        assert (await user.tags(), user.blobs()) == ([], set())


@pytest.mark.parametrize("mebibytes", [9, 64])
async def test_an_upload_that_does_not_fit(user: User, mebibytes: int) -> None:
    """However much of the body is still on its way when the disk is full."""
    data = bytes(mebibytes * MIB)
    digest = hashlib.sha256(data).hexdigest()
    answer = await user.web.post(f"/api/blobs/sha256:{digest}", content=data)
    fits = b"hello"
    after = await user.web.post(
        f"/api/blobs/sha256:{hashlib.sha256(fits).hexdigest()}", content=fits
    )

    assert (answer.status_code, answer.json()) == (507, {"error": FULL})
    assert after.status_code == 201
    assert (user.incoming(), await user.verified()) == (set(), True)


async def test_a_disk_that_became_read_only(user: User, room: Path) -> None:
    """What is there goes on being there; whatever changes something is refused in words."""
    await user.pull("hf.co/u/small")
    hello = hashlib.sha256(b"hello").hexdigest()
    names = ["hf.co/u/small:latest", "m:3b"]
    with disk.read_only(room):
        pulled = await user.pull("hf.co/u/large")
        created = await user.last(
            "/api/create", {"model": "mine", "from": "m:3b", "system": "Be brief."}
        )
        uploaded = await user.web.post(f"/api/blobs/sha256:{hello}", content=b"hello")
        copied = await user.web.post("/api/copy", json={"source": "m:3b", "destination": "b"})
        deleted = await user.web.request("DELETE", "/api/delete", json={"model": "m:3b"})
        shown = await user.web.post("/api/show", json={"model": "m:3b"})
        unharmed = await user.tags(), await user.verified()
    again = await user.pull("hf.co/u/large")

    assert (pulled, created) == ({"error": READ_ONLY}, {"error": READ_ONLY})
    assert [one.json() for one in (uploaded, copied, deleted)] == [{"error": READ_ONLY}] * 3
    assert all(one.status_code >= 500 for one in (uploaded, copied, deleted))
    assert (shown.status_code, unharmed) == (200, (names, True))
    assert again == {"status": "success"}
    assert (user.incoming(), await user.verified()) == (set(), True)
