"""The files this board fetched: a folder of its own, with a limit, where what is used least goes first.

<cache>/
  blobs/sha256-<hex>        whole; the time of change is that of the last use, so that it outlives us
  incoming/<sha256>.part    the beginning of a blob, to go on from
  lock                      one worker at a time
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from rkllama_policy.eviction import CachedFile, to_drop
from rkllama_protocol.errors import StorageError
from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_transfer.durable import NO_SPACE, storage_errors
from rkllama_transfer.parts import Part, Room, human, part_name, sweep

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    digest: Digest
    size: int
    used_at: float


class Cache:
    """One worker's cache. Every method may be called from any thread, and blocks.

    The folder is made when something is first fetched: a board that shares the store's has none.
    """

    def __init__(self, root: Path, *, limit_bytes: int | None) -> None:
        self._root = root
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._lock_fd = -1
        self.room = Room(self._incoming)
        """What is left of the disk."""

    @property
    def exists(self) -> bool:
        """Whether anything was ever fetched into this folder."""
        return self._root.is_dir()

    def open(self) -> None:
        """Have the folder for this process alone, and sweep it; harmless the second time.

        Raises:
            StorageError: Another worker has it, or the disk refuses.
        """
        with self._lock, storage_errors():
            if self._lock_fd >= 0:
                return
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                raise StorageError(f"another worker uses the folder {self._root}") from error
            self._lock_fd = fd
            sweep(self._incoming)

    def close(self) -> None:
        """Let the folder go."""
        with self._lock:
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            self._lock_fd = -1

    def find(self, digest: Digest, size: int) -> Path | None:
        """The blob, if it is here whole; that is a use of it."""
        path = self._blobs / digest.file_name
        try:
            if path.stat().st_size != size:
                return None
            # The kernel's own clock for files ticks too slowly to tell two uses apart.
            now_ns = time.time_ns()
            os.utime(path, ns=(now_ns, now_ns))
        except FileNotFoundError:
            return None
        except OSError as error:
            # A file system that went read-only still serves what it has.
            log.warning("use not noted", extra={"reason": error.strerror})
        return path

    def part(self, digest: Digest) -> Part:
        """What there is of a blob; errors as `open`."""
        return Part(self._incoming / part_name(digest), self._blobs / digest.file_name)

    def held(self) -> dict[Digest, int]:
        """Bytes of every blob that is here, whole or in part, the last used first."""
        files = sorted(self._files(), key=lambda file: -file.used_at)
        return {file.digest: file.size for file in files}

    def make_room(self, digest: Digest, size: int, *, keep: Collection[str]) -> None:
        """Let files go until the blob fits into the limit, and onto the disk.

        Digests in `keep` stay, and what is here already of the blob itself.

        Raises:
            StorageError: It does not fit.
        """
        with storage_errors():
            files = list(self._files())
            disk = os.statvfs(self._incoming)
        free = disk.f_bavail * disk.f_frsize
        limit = free + sum(file.size for file in files)
        if self._limit_bytes is not None:
            limit = min(limit, self._limit_bytes)
        by_name = {file.path.name: file for file in files if file.digest != digest}
        dropped = to_drop(
            [
                CachedFile(
                    name=name,
                    size=file.size,
                    used_at=file.used_at,
                    in_use=str(file.digest) in keep,
                )
                for name, file in by_name.items()
            ],
            need_bytes=size,
            limit_bytes=limit,
        )
        if dropped is None:
            raise StorageError(f"{NO_SPACE}: {human(size)} are needed, of {human(limit)} in all")
        with storage_errors():
            for name in dropped:
                by_name[name].path.unlink(missing_ok=True)

    def _files(self) -> Iterator[_File]:
        for folder in (self._blobs, self._incoming):
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue
            for entry in entries:
                hexadecimal = entry.name.removesuffix(PART_SUFFIX)
                name = entry.name if folder is self._blobs else f"sha256-{hexadecimal}"
                try:
                    digest = Digest.parse(name)
                    stat = entry.stat(follow_symlinks=False)
                except (InvalidNameError, FileNotFoundError):
                    continue
                yield _File(
                    path=Path(entry.path),
                    digest=digest,
                    size=stat.st_size,
                    used_at=stat.st_mtime_ns / 1e9,
                )
