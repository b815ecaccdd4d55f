"""Parts, and the room they are promised."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from rkllama_protocol.errors import StorageError
from rkllama_protocol.names import Digest
from rkllama_store.blobs import Blobs
from rkllama_store.folder import owned
from rkllama_transfer.parts import PART_DAYS, Room

DATA = bytes(range(256)) * 5000
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())


def test_a_part_goes_on_where_another_process_left_it(blobs: Blobs) -> None:
    with blobs.part(DIGEST) as part:
        part.write(DATA[:1000])
    with blobs.part(DIGEST) as part:
        part.recall(most=len(DATA), check=lambda: None)
        recalled = part.size
        part.write(DATA[1000:])
        digest = part.digest
        part.publish()

    assert (recalled, digest) == (1000, DIGEST)
    assert blobs.path(DIGEST).read_bytes() == DATA


def test_a_part_that_is_too_long_begins_anew(blobs: Blobs) -> None:
    with blobs.part(DIGEST) as part:
        part.write(DATA)
    with blobs.part(DIGEST) as part:
        part.recall(most=len(DATA) - 1, check=lambda: None)

        assert part.size == 0


def test_a_reset_part_forgets(blobs: Blobs) -> None:
    with blobs.part(DIGEST) as part:
        part.write(b"wrong")
        part.reset()
        part.write(DATA)

        assert (part.size, part.digest) == (len(DATA), DIGEST)


def test_parts_outlive_the_store_and_go_when_they_are_old(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    names = {"a" * 64: 0, "b" * 64: PART_DAYS - 1, "c" * 64: PART_DAYS + 1}
    with owned(tmp_path):
        for stem, days in names.items():
            path = incoming / f"{stem}.part"
            path.touch()
            then = path.stat().st_mtime - days * 86_400
            os.utime(path, (then, then))
        for name in ("d" * 64, "x.part", f"{'E' * 64}.part"):
            (incoming / name).touch()
    with owned(tmp_path):
        left = {path.name for path in incoming.iterdir()}

    assert left == {f"{'a' * 64}.part", f"{'b' * 64}.part"}


def test_two_transfers_do_not_count_on_the_same_bytes(tmp_path: Path) -> None:
    room = Room(tmp_path)
    most = shutil.disk_usage(tmp_path).free * 2 // 3
    left = [most]
    with room.reserved("one", lambda: left[0]):
        with (
            pytest.raises(StorageError, match="no space left on device: two needs"),
            room.reserved("two", lambda: most),
        ):
            pass
        left[0] = 0
        with room.reserved("two", lambda: most):
            pass
    with room.reserved("three", lambda: most):
        pass
