"""The fetcher and its cache, against a store's own HTTP port."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError
from rkllama_protocol.names import Digest
from rkllama_transfer.parts import PART_DAYS

from tests.integration.shop import Board, Shop, blob_name, served, some
from tests.link import Link

MIB = 2**20


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Retries do not wait."""
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with served(tmp_path / "store") as shop:
        yield shop


@pytest.fixture
def link(shop: Shop) -> Iterator[Link]:
    with Link(lambda: shop.url) as line:
        yield line


@pytest.fixture
def board(tmp_path: Path, link: Link) -> Board:
    return Board(tmp_path, lambda: link.url)


async def test_every_file_comes_an_adapter_without_a_name_too(shop: Shop, board: Board) -> None:
    weights, small, adapter = some(1), b"small", some(2, MIB)
    model = shop.model(weights, small, adapter=adapter)
    async with board.up() as fetcher:
        paths = await fetcher.files(model, keep=())
        rate, blobs = fetcher.bytes_per_s, fetcher.blobs

    assert [paths[layer.digest].read_bytes() for layer in model.layers] == [weights, small, adapter]
    assert set(blobs) == {model.layers[0].digest, model.layers[2].digest}
    assert rate is not None


async def test_a_board_with_the_stores_folder_copies_nothing(
    shop: Shop, board: Board, link: Link
) -> None:
    model = shop.model(some(1))
    board.shared = shop.blobs.path(Digest.parse(model.layers[0].digest)).parent
    async with board.up() as fetcher:
        (path,) = (await fetcher.files(model, keep=())).values()
        shares = fetcher.shares_store

    assert (path.parent, shares) == (board.shared, True)
    assert link.carried == 0
    assert not board.cache.exists()


async def test_a_folder_that_lacks_a_file_is_not_taken_for_the_stores(
    shop: Shop, board: Board
) -> None:
    board.shared.mkdir(parents=True)
    async with board.up() as fetcher:
        before = fetcher.shares_store
        await fetcher.files(shop.model(some(1)), keep=())

        assert (before, fetcher.shares_store) == (True, False)


async def test_what_was_used_least_goes_also_after_a_restart(shop: Shop, board: Board) -> None:
    data = [some(seed) for seed in range(3)]
    models = [shop.model(one) for one in data]
    async with board.up(limit_bytes=7 * MIB) as fetcher:
        for model in models[:2]:
            await fetcher.files(model, keep=())
        await fetcher.used(models[0])
    async with board.up(limit_bytes=7 * MIB) as fetcher:
        await fetcher.files(models[2], keep=())

        assert board.names() == {blob_name(data[0]), blob_name(data[2])}


async def test_what_is_in_use_stays_and_what_finds_no_room_leaves_nothing(
    shop: Shop, board: Board
) -> None:
    data = [some(seed) for seed in range(3)]
    models = [shop.model(one, name=f"m{at}") for at, one in enumerate(data)]
    in_use = [layer.digest for model in models[:2] for layer in model.layers]
    async with board.up(limit_bytes=7 * MIB) as fetcher:
        await fetcher.files(models[0], keep=())
        await fetcher.files(models[1], keep=in_use)
        with pytest.raises(RuntimeFailedError, match="m2 does not fit into this board's cache"):
            await fetcher.files(models[2], keep=in_use)

        assert board.names() == {blob_name(data[0]), blob_name(data[1])}


async def test_a_blob_that_two_want_comes_once(shop: Shop, board: Board, link: Link) -> None:
    weights = some(1)
    one, two = shop.model(weights, name="one"), shop.model(weights, name="two")
    async with board.up() as fetcher:
        link.hold(MIB)
        wanting = [asyncio.ensure_future(fetcher.files(model, keep=())) for model in (one, two)]
        await asyncio.to_thread(link.held.wait)
        link.release()
        found = await asyncio.gather(*wanting)

    assert found[0] == found[1]
    assert link.carried < len(weights) + MIB


async def test_a_cancelled_fetch_leaves_a_part_that_another_life_goes_on_with(
    shop: Shop, board: Board, link: Link
) -> None:
    weights = some(1, 8 * MIB)
    model = shop.model(weights)
    async with board.up() as fetcher:
        link.hold(6 * MIB)
        wanting = asyncio.ensure_future(fetcher.files(model, keep=()))
        await asyncio.to_thread(link.held.wait)
        wanting.cancel()
        await asyncio.wait({wanting})
        missing = fetcher.missing_bytes
    left = board.names()
    link.release()
    async with board.up() as fetcher:
        known = fetcher.blobs[model.layers[0].digest]
        (path,) = (await fetcher.files(model, keep=())).values()

    assert left == {f"{hashlib.sha256(weights).hexdigest()}.part"}
    assert missing == 0
    assert 4 * MIB < known < len(weights)
    assert path.read_bytes() == weights
    assert link.carried < len(weights) + 3 * MIB


async def test_a_connection_that_breaks_is_gone_on_with(
    shop: Shop, board: Board, link: Link
) -> None:
    weights = some(1)
    link.cut(MIB, 2 * MIB)
    async with board.up() as fetcher:
        (path,) = (await fetcher.files(shop.model(weights), keep=())).values()

    assert path.read_bytes() == weights
    assert link.carried < len(weights) + MIB


@pytest.mark.parametrize(("garbled", "fails"), [((MIB,), False), ((MIB, 5 * MIB), True)])
async def test_wrong_bytes_are_fetched_once_more_and_never_kept(
    shop: Shop, board: Board, link: Link, garbled: tuple[int, ...], fails: bool
) -> None:
    model = shop.model(some(1))
    link.garble(*garbled)
    async with board.up() as fetcher:
        if fails:
            with pytest.raises(InvalidModelError, match=r"0\.rkllm of m is not what its manifest"):
                await fetcher.files(model, keep=())
        else:
            await fetcher.files(model, keep=())

    assert bool(board.names()) is not fails


async def test_what_the_store_has_not_or_has_damaged_is_named(shop: Shop, board: Board) -> None:
    model = shop.model(some(1))
    path = shop.blobs.path(Digest.parse(model.layers[0].digest))
    async with board.up() as fetcher:
        os.truncate(path, MIB)
        with pytest.raises(InvalidModelError, match=r"0\.rkllm of m is missing or damaged"):
            await fetcher.files(model, keep=())
        path.unlink()
        with pytest.raises(InvalidModelError, match=r"0\.rkllm of m is missing or damaged"):
            await fetcher.files(model, keep=())

    assert not board.names() - {f"{path.name.removeprefix('sha256-')}.part"}


@pytest.mark.parametrize(
    ("url", "text"),
    [("", "no model store is heard"), ("http://127.0.0.1:1", "cannot be reached")],
)
async def test_a_store_that_is_not_there_is_told_after_a_while(
    shop: Shop, board: Board, url: str, text: str
) -> None:
    board.url = lambda: url
    async with board.up() as fetcher:
        with pytest.raises(RuntimeFailedError, match=f"m does not come from .*{text}"):
            await fetcher.files(shop.model(some(1)), keep=())


async def test_two_workers_do_not_share_a_cache(shop: Shop, board: Board) -> None:
    model = shop.model(some(1))
    async with board.up() as one:
        await one.files(model, keep=())
        async with board.up() as two:
            with pytest.raises(RuntimeFailedError, match="another worker uses the folder"):
                await two.files(shop.model(some(2)), keep=())


async def test_old_parts_are_swept(shop: Shop, board: Board) -> None:
    incoming = board.cache / "incoming"
    incoming.mkdir(parents=True)
    for stem, days in {"a" * 64: PART_DAYS - 1, "b" * 64: PART_DAYS + 1}.items():
        path = incoming / f"{stem}.part"
        path.touch()
        then = path.stat().st_mtime - days * 86_400
        os.utime(path, (then, then))
    async with board.up():
        left = {path.name for path in incoming.iterdir()}

    assert left == {f"{'a' * 64}.part"}
