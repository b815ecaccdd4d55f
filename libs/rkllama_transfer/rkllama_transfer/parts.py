"""Bytes on their way to becoming a blob whose end is known before: they may come in several attempts."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rkllama_protocol.errors import StorageError
from rkllama_protocol.names import Digest

from rkllama_transfer.durable import NO_SPACE, publish, storage_errors

PIECE_BYTES = 2**20
SYNC_BYTES = 64 * 2**20
"""After so much a part is synced: a power cut costs no more, and the end is not one long wait."""
PART_DAYS = 14
"""A part that nobody went on with for so long is removed."""

_PART = re.compile(r"[0-9a-f]{64}\.part")


def part_name(digest: Digest) -> str:
    """The file name of what there is of a blob so far."""
    return f"{digest.hex}.part"


def sweep(incoming: Path) -> None:
    """Remove what writers that died left behind, but for parts that may yet be gone on with.

    Raises:
        OSError: The disk refuses.
    """
    oldest = time.time() - PART_DAYS * 86_400
    for path in incoming.iterdir():
        if not (_PART.fullmatch(path.name) and path.lstat().st_mtime > oldest):
            path.unlink()


class Sink(Protocol):
    """Where a transfer puts bytes. The methods may block."""

    @property
    def size(self) -> int:
        """Bytes that are there, from the first on."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def reset(self) -> None:
        """Forget them all."""


class Part:
    """The beginning of a blob, as `<sha256>.part`; it outlives the process.

    To be used as a context, by one thread at a time; `recall` comes before anything else.
    """

    def __init__(self, path: Path, blob: Path) -> None:
        self._path = path
        self._blob = blob
        self._hash = hashlib.sha256()
        self._size = 0
        self._synced = 0
        with storage_errors():
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self._size

    def recall(self, *, most: int, check: Callable[[], None]) -> None:
        """Read again what is there, of which more than `most` bytes can be nothing but wrong.

        `check` is called between two pieces; what it raises ends the work.

        Raises:
            StorageError: The disk refuses.
        """
        with storage_errors():
            if os.fstat(self._fd).st_size > most:
                os.ftruncate(self._fd, 0)
            while piece := os.pread(self._fd, PIECE_BYTES, self._size):
                self._hash.update(piece)
                self._size += len(piece)
                check()

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            StorageError: The disk is full or refuses.
        """
        rest = memoryview(data)
        with storage_errors():
            while rest:
                count = os.pwrite(self._fd, rest, self._size)
                self._hash.update(rest[:count])
                self._size += count
                rest = rest[count:]
            if self._size - self._synced >= SYNC_BYTES:
                os.fdatasync(self._fd)
                self._synced = self._size

    def reset(self) -> None:
        """Forget every byte; errors as `recall`."""
        with storage_errors():
            os.ftruncate(self._fd, 0)
        self._hash = hashlib.sha256()
        self._size = self._synced = 0

    @property
    def digest(self) -> Digest:
        """Of what is there."""
        return Digest(self._hash.hexdigest())

    def discard(self) -> None:
        """Leave nothing of it behind; errors as `recall`."""
        with storage_errors():
            self._path.unlink(missing_ok=True)

    def publish(self) -> None:
        """Let what is there be the blob; errors as `write`."""
        with storage_errors():
            os.fsync(self._fd)
            publish(self._path, self._blob)


class Room:
    """The free space that transfers may still fill, so that no two of them count on the same bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._promised: dict[int, Callable[[], int]] = {}

    @contextmanager
    def reserved(self, name: str, missing: Callable[[], int]) -> Iterator[None]:
        """Keep `missing()` bytes, asked again whenever somebody else wants some, until the context ends.

        Raises:
            StorageError: They are not there.
        """
        with self._lock:
            with storage_errors():
                disk = os.statvfs(self._folder)
            free = disk.f_bavail * disk.f_frsize - sum(ask() for ask in self._promised.values())
            if (need := missing()) > free:
                raise StorageError(
                    f"{NO_SPACE}: {name} needs {human(need)}, and {human(max(free, 0))} are free"
                )
            self._promised[id(missing)] = missing
        try:
            yield
        finally:
            with self._lock:
                del self._promised[id(missing)]


def human(size: int) -> str:
    """A number of bytes for a sentence."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
