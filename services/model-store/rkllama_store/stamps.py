"""How each blob's file looked when it was known to be whole: inode, size, time of last change.

A blob is never written to again. So a file that is the same inode, but has another size or another
time, was changed by somebody else, or by a disk that fails. Another inode says nothing: that is a
copy of the folder on a new disk, or a blob that came in anew.

Stamps are small files of their own, `stamps/sha256-<hex>`: to remove one needs no space, so that a
full disk cannot leave a stamp behind that a later blob would be measured by. One that is missing or
cut short only means that nothing is known.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import NamedTuple

from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_transfer.durable import discard, storage_errors

from rkllama_store.folder import INCOMING

STAMPS = "stamps"
STAMP_BYTES = 100


class _Stamp(NamedTuple):
    inode: int
    size: int
    changed_ns: int
    """-1 for a blob that was found damaged: no file is like that."""


class Stamps:
    """The stamps under one store folder. Every method may be called from any thread, and blocks."""

    def __init__(self, root: Path) -> None:
        self._folder = root / STAMPS
        self._incoming = root / INCOMING
        self._lock = threading.Lock()
        self._known: dict[Digest, _Stamp] | None = None

    def differs(self, digest: Digest, file: os.stat_result) -> bool:
        """Whether the blob's file is known to have changed since it was whole."""
        with self._lock:
            stamp = self._loaded().get(digest)
        return stamp is not None and stamp.inode == file.st_ino and stamp != _stamp(file)

    def add(self, digest: Digest, file: os.stat_result) -> None:
        """Note how a blob's file looks, unless this very file was noted already.

        Raises:
            StorageError: The disk is full or refuses.
        """
        with self._lock:
            known = self._loaded().get(digest)
            if known is None or known.inode != file.st_ino:
                self._write(digest, _stamp(file))

    def confirm(self, digest: Digest, file: os.stat_result) -> None:
        """The blob was read and is whole; errors as `add`."""
        with self._lock:
            if self._loaded().get(digest) != _stamp(file):
                self._write(digest, _stamp(file))

    def condemn(self, digest: Digest, file: os.stat_result) -> None:
        """The blob was read and is damaged; errors as `add`."""
        with self._lock:
            self._write(digest, _stamp(file)._replace(changed_ns=-1))

    def forget(self, digest: Digest) -> None:
        """The blob goes, or is gone; errors as `add`."""
        with self._lock:
            if self._loaded().pop(digest, None) is not None:
                with storage_errors():
                    self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest.file_name

    def _write(self, digest: Digest, stamp: _Stamp) -> None:
        self._loaded()[digest] = stamp
        temporary = self._incoming / uuid.uuid4().hex
        try:
            with storage_errors():
                self._folder.mkdir(exist_ok=True)
                temporary.write_text(" ".join(map(str, stamp)), encoding="ascii")
                temporary.replace(self._path(digest))
        finally:
            discard(temporary)

    def _loaded(self) -> dict[Digest, _Stamp]:
        if self._known is None:
            self._known = dict(self._read())
        return self._known

    def _read(self) -> list[tuple[Digest, _Stamp]]:
        found = []
        for path in self._folder.glob("*"):
            try:
                digest = Digest.parse(path.name)
                with path.open("rb") as file:
                    inode, size, changed_ns = map(int, file.read(STAMP_BYTES).split())
            except (InvalidNameError, OSError, ValueError):
                continue
            found.append((digest, _Stamp(inode, size, changed_ns)))
        return found


def _stamp(file: os.stat_result) -> _Stamp:
    return _Stamp(file.st_ino, file.st_size, file.st_mtime_ns)
