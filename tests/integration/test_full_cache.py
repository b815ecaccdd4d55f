"""A board whose disk is full: said so, nothing harmed, and what is used least makes room."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from rkllama_protocol.errors import RuntimeFailedError

from tests.integration.shop import Board, Shop, blob_name, served, some
from tests.link import Link

pytestmark = pytest.mark.system

MIB = 2**20


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with served(tmp_path / "store") as shop:
        yield shop


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight mebibytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def link(shop: Shop) -> Iterator[Link]:
    with Link(lambda: shop.url) as line:
        yield line


@pytest.fixture
def board(disk: Path, link: Link) -> Board:
    return Board(disk, lambda: link.url)


async def test_what_cannot_fit_is_refused_before_any_of_it_comes(
    shop: Shop, board: Board, link: Link
) -> None:
    async with board.up() as fetcher:
        with pytest.raises(RuntimeFailedError, match=r"m does not fit .* no space left on device"):
            await fetcher.files(shop.model(some(1, 9 * MIB)), keep=())

    assert link.carried == 0
    assert board.names() == set()


async def test_a_disk_that_somebody_else_fills_is_told_and_gone_on_with_later(
    shop: Shop, board: Board, link: Link, disk: Path
) -> None:
    weights = some(1, 6 * MIB)
    model = shop.model(weights)
    other = disk / "other"
    async with board.up() as fetcher:
        link.hold(2 * MIB)
        fetching = asyncio.ensure_future(fetcher.files(model, keep=()))
        await asyncio.to_thread(link.held.wait)
        other.write_bytes(bytes(4 * MIB))
        link.release()
        with pytest.raises(RuntimeFailedError, match="no space left on device"):
            await fetching
        left = board.names()
        other.unlink()
        (path,) = (await fetcher.files(model, keep=())).values()

        assert left == {f"{blob_name(weights).removeprefix('sha256-')}.part"}
        assert path.read_bytes() == weights
        assert link.carried < 2 * len(weights)


async def test_what_is_used_least_makes_room_on_the_disk(shop: Shop, board: Board) -> None:
    data = [some(seed) for seed in range(3)]
    async with board.up() as fetcher:
        for one in data:
            await fetcher.files(shop.model(one), keep=())

        assert board.names() == {blob_name(data[1]), blob_name(data[2])}
