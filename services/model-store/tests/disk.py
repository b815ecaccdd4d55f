"""A small file system of a test's own; to mount one takes root, so such tests are marked `system`."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path


@contextmanager
def small(disk: Path, *, mebibytes: int) -> Iterator[Path]:
    """A file system of this size at `disk`."""
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A mounted file system that refuses changes until this context ends.

    It is covered by a read-only view of itself: to remount it is not possible while somebody has a
    file of it open for writing, as the store has its lock.
    """
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        yield
    finally:
        subprocess.run(["umount", disk], check=True)


def _written(file: FileIO, size: int) -> bool:
    """Whether so many bytes still fitted."""
    try:
        file.write(bytes(size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte of the file system is free until this context ends."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                while _written(file, size):
                    pass
        yield
    finally:
        filler.unlink()
