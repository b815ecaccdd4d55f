"""Writing so that a power cut leaves the old bytes or the new ones, and nothing in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rkllama_protocol.errors import StorageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_SPACE = "no space left on device"


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the disk says inside this context into a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(NO_SPACE) from error
        raise StorageError(f"the disk refuses: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create `folder` and what leads to it, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def discard(temporary: Path) -> None:
    """Remove what was not published, if it is there and the disk lets: what stays is swept at the next start."""
    # A disk that became read-only refuses even to remove what is not there.
    with suppress(OSError):
        temporary.unlink()


def publish(temporary: Path, target: Path) -> None:
    """Give the bytes of `temporary`, which are synced already, their name; replaces what is there."""
    temporary.replace(target)
    # rename(2) does nothing when both names are links to one file.
    temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
