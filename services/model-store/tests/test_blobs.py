"""Blobs: what has a blob's name is whole, and what is needed stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rkllama_protocol.errors import InvalidModelError, StorageError, UpstreamError
from rkllama_protocol.names import Digest
from rkllama_store.blobs import EXPECTED_S, Blobs, DigestMismatchError
from rkllama_store.folder import owned
from rkllama_transfer.durable import storage_errors

HELLO = Digest("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")


def litter(root: Path) -> list[Path]:
    return list((root / "incoming").iterdir())


def put(blobs: Blobs, data: bytes) -> Digest:
    with blobs.holding() as hold:
        return blobs.put(data, hold=hold)[0]


def test_bytes_become_a_blob_of_their_digest(blobs: Blobs, root: Path) -> None:
    with blobs.incoming() as incoming:
        incoming.write(b"hel")
        incoming.write(b"lo")
        committed = incoming.commit(HELLO)

    assert committed == (HELLO, 5)
    assert (root / "blobs" / f"sha256-{HELLO.hex}").read_bytes() == b"hello"
    assert litter(root) == []


def test_other_bytes_than_promised_leave_nothing(blobs: Blobs, root: Path) -> None:
    with blobs.incoming() as incoming:
        incoming.write(b"hallo")
        with pytest.raises(DigestMismatchError) as refused:
            incoming.commit(HELLO)

    assert f'digest mismatch, expected "{HELLO}", got "sha256:' in str(refused.value)
    assert blobs.ages_s() == {}
    assert litter(root) == []


def test_the_same_bytes_are_kept_once(blobs: Blobs) -> None:
    with blobs.holding() as hold:
        first = blobs.put(b"hello", hold=hold)
        second = blobs.put(b"hello", hold=hold)

    assert (first, second) == ((HELLO, True), (HELLO, False))


def test_a_file_is_adopted_by_a_link(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"hello")
    seen: list[int] = []
    blobs.adopt(source, HELLO, progress=seen.append)

    assert source.stat().st_ino == blobs.path(HELLO).stat().st_ino
    assert seen == [5]


def test_a_file_that_cannot_be_linked_is_copied(blobs: Blobs, root: Path) -> None:
    source = Path("/dev/shm") / f"rkllama-{os.getpid()}"  # noqa: S108 - another file system
    if not source.parent.is_dir() or source.parent.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is no other file system here")
    source.write_bytes(b"hello")
    try:
        blobs.adopt(source, HELLO, progress=lambda _: None)
    finally:
        source.unlink()

    assert blobs.read(HELLO, limit_bytes=5) == b"hello"


def test_adopting_again_leaves_no_second_link(blobs: Blobs, root: Path, tmp_path: Path) -> None:
    """rename(2) does nothing when both names are the same file."""
    source = tmp_path / "model"
    source.write_bytes(b"hello")
    for _ in range(2):
        blobs.adopt(source, HELLO, progress=lambda _: None)

    assert litter(root) == []


def test_a_file_with_other_bytes_is_not_adopted(blobs: Blobs, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"hallo")
    with pytest.raises(UpstreamError, match="digest mismatch"):
        blobs.adopt(source, HELLO, progress=lambda _: None)

    assert (blobs.ages_s(), litter(root)) == ({}, [])


def test_a_held_blob_stays(blobs: Blobs) -> None:
    digest = put(blobs, b"hello")
    with blobs.holding() as hold:
        hold.add(digest)
        held = blobs.remove([digest])

    assert (held, blobs.remove([digest])) == (set(), {digest})


def test_an_expected_blob_stays_an_hour(root: Path) -> None:
    now = [0.0]
    blobs = Blobs(root, clock=lambda: now[0])
    digest = put(blobs, b"hello")
    blobs.expect(digest)
    before = blobs.remove([digest])
    now[0] = EXPECTED_S

    assert (before, blobs.remove([digest])) == (set(), {digest})


def test_a_blob_that_found_its_model_is_no_longer_expected(blobs: Blobs) -> None:
    digest = put(blobs, b"hello")
    blobs.expect(digest)
    blobs.settle([digest])

    assert blobs.remove([digest]) == {digest}


def test_a_small_blob_that_is_large_is_refused(blobs: Blobs) -> None:
    digest = put(blobs, b"hello")
    with pytest.raises(InvalidModelError, match="larger than 4 bytes"):
        blobs.read(digest, limit_bytes=4)


def test_a_full_disk_is_said_in_its_own_words() -> None:
    with (
        pytest.raises(StorageError, match="no space left on device"),
        storage_errors(),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_what_a_dead_writer_left_is_swept_at_start(tmp_path: Path) -> None:
    with owned(tmp_path):
        (tmp_path / "incoming" / "left").write_bytes(b"half a")
    with owned(tmp_path):
        assert litter(tmp_path) == []
