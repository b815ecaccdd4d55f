"""The store's folder: where things lie in it, and that one process at a time has it.

<data>/models/
  blobs/sha256-<hex>
  manifests/<host>/<namespace>/<model>/<tag>     absent until the first model
  incoming/                                      what is being written; swept at start, but for
    <sha256>.part                                the beginning of a blob, to go on from
  lock
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rkllama_service.process import SetupError
from rkllama_transfer.parts import sweep

BLOBS = "blobs"
MANIFESTS = "manifests"
INCOMING = "incoming"
LOCK = "lock"


class InUseError(SetupError):
    """Another process has the folder."""


@contextmanager
def owned(root: Path) -> Iterator[None]:
    """Hold `root` for this process alone, with its folders made and left-overs swept.

    Raises:
        SetupError: The folder cannot be used, or another store has it.
    """
    try:
        (root / BLOBS).mkdir(parents=True, exist_ok=True)
        (root / INCOMING).mkdir(exist_ok=True)
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SetupError(f"cannot write to the folder {root}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InUseError(f"another model store uses the folder {root}") from error
        try:
            # This also proves that files can be written.
            (root / INCOMING / "probe").touch()
            sweep(root / INCOMING)
        except OSError as error:
            raise SetupError(f"cannot write to the folder {root}: {error.strerror}") from error
        yield
    finally:
        os.close(lock)
