"""Immutable bytes named by their digest.

A blob comes in under a name of its own in `incoming/`, is hashed while it is written, synced, and
renamed; so whatever has a blob's name is whole. It goes when nobody needs it any more, which is the
collector's decision; here is only known what must not go *now*:

    held       by a create or pull that runs
    expected   was uploaded, or asked for, before a create that has not come yet
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rkllama_protocol.errors import InvalidModelError, StorageError, UpstreamError
from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_transfer.durable import discard, publish, storage_errors, sync_folder
from rkllama_transfer.parts import Part, Room, part_name

from rkllama_store.folder import BLOBS, INCOMING
from rkllama_store.stamps import Stamps

EXPECTED_S = 3600.0
"""How long an upload waits for the create that it was made for."""
PIECE_BYTES = 2**20


class DigestMismatchError(ValueError):
    """The bytes are not those of the digest they were sent under."""

    def __init__(self, expected: Digest, got: Digest) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{got}"')


class Incoming:
    """Bytes on their way to becoming a blob; used as a context, it leaves a blob or nothing."""

    def __init__(self, path: Path, blobs: Path) -> None:
        self._path = path
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._size = 0
        with storage_errors():
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Leave nothing but the blob, if there is one; to be called last, and once."""
        os.close(self._fd)
        discard(self._path)

    def write(self, data: bytes) -> None:
        """Take more bytes.

        Raises:
            StorageError: The disk is full or refuses.
        """
        rest = memoryview(data)
        self._hash.update(rest)
        self._size += len(rest)
        with storage_errors():
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def commit(self, expected: Digest | None = None) -> tuple[Digest, int]:
        """Make a blob of what was written; its digest and size in bytes.

        Raises:
            DigestMismatchError: It is not what was `expected`.
            StorageError: The disk is full or refuses.
        """
        digest = Digest(self._hash.hexdigest())
        if expected is not None and digest != expected:
            raise DigestMismatchError(expected, digest)
        with storage_errors():
            os.fsync(self._fd)
            publish(self._path, self._blobs / digest.file_name)
        return digest, self._size


class Hold:
    """Digests that the collector leaves alone until the context that gave this hold ends."""

    def __init__(self, add: Callable[[Digest], None]) -> None:
        self.add = add


class Blobs:
    """The blobs under one store folder. Every method may be called from any thread, and blocks."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = root / BLOBS
        self._incoming = root / INCOMING
        self._clock = clock
        self._stamps = Stamps(root)
        self.room = Room(self._incoming)
        """What is left of the disk."""
        # Guards the two below, and that nothing they name is removed.
        self._lock = threading.Lock()
        self._held: Counter[Digest] = Counter()
        self._expected: dict[Digest, float] = {}

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, or would."""
        return self._folder / digest.file_name

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob; None if there is none, or it is known to be damaged."""
        try:
            file = self.path(digest).stat()
        except FileNotFoundError:
            self._stamps.forget(digest)
            return None
        return None if self._stamps.differs(digest, file) else file.st_size

    def fault(self, digest: Digest, size: int) -> str:
        """What is wrong with the blob, as far as that can be told without reading it, or empty."""
        try:
            file = self.path(digest).stat()
        except FileNotFoundError:
            return "is missing"
        if file.st_size != size:
            return f"has {file.st_size} bytes instead of {size}"
        if self._stamps.differs(digest, file):
            return "is damaged, or was changed after it was stored"
        return ""

    def stamp(self, digests: Iterable[Digest]) -> None:
        """These blobs are whole now: a change to them will be noticed.

        Raises:
            StorageError: The disk is full or refuses.
        """
        for digest in digests:
            with suppress(FileNotFoundError):
                self._stamps.add(digest, self.path(digest).stat())

    def verify(self, digest: Digest, size: int, *, progress: Callable[[int], None]) -> str:
        """Read the blob; what is wrong with it, or empty. The answer is remembered.

        `progress(bytes)` is called while the file is read; what it raises ends the work.
        """
        path = self.path(digest)
        hashed = hashlib.sha256()
        reason = "is damaged: its bytes are not those it is named by"
        try:
            file = path.stat()
            for piece in _pieces(path, progress):
                hashed.update(piece)
        except FileNotFoundError:
            return "is missing"
        except UpstreamError as error:
            reason = f"is damaged: {error}"
        # What a full disk keeps from being remembered is found again.
        with suppress(StorageError):
            if hashed.hexdigest() != digest.hex:
                self._stamps.condemn(digest, file)
                return reason
            self._stamps.confirm(digest, file)
        return self.fault(digest, size)

    def read(self, digest: Digest, *, limit_bytes: int) -> bytes:
        """The whole of a small blob.

        Raises:
            InvalidModelError: It is missing, or larger than `limit_bytes`.
        """
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit_bytes + 1)
        except OSError as error:
            raise InvalidModelError(f"blob {digest} cannot be read: {error.strerror}") from error
        if len(data) > limit_bytes:
            raise InvalidModelError(f"blob {digest} is larger than {limit_bytes} bytes")
        return data

    def head(self, digest: Digest, size: int) -> bytes:
        """The first `size` bytes of a blob, or as many as there are; none if there is no such blob."""
        try:
            with self.path(digest).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    def incoming(self) -> Incoming:
        """A place to write a new blob to."""
        return Incoming(self._temporary(), self._folder)

    def part(self, digest: Digest) -> Part:
        """What there is of a blob that comes in attempts; one at a time may have it.

        Raises:
            StorageError: The disk refuses.
        """
        return Part(self._incoming / part_name(digest), self.path(digest))

    def put(self, data: bytes, *, hold: Hold) -> tuple[Digest, bool]:
        """Keep small bytes; their digest, which is held, and whether they are new.

        Raises:
            StorageError: The disk is full or refuses.
        """
        digest = Digest(hashlib.sha256(data).hexdigest())
        hold.add(digest)
        if self.size(digest) == len(data):
            return digest, False
        with self.incoming() as incoming:
            incoming.write(data)
            incoming.commit()
        return digest, True

    def adopt(
        self,
        source: Path,
        expected: Digest | None = None,
        *,
        progress: Callable[[int], None],
    ) -> tuple[Digest, int]:
        """Make a blob of a file elsewhere on this machine, by a hard link if that is possible.

        `progress(bytes)` is called while the file is read; what it raises ends the work.

        Raises:
            UpstreamError: The file cannot be read, or is not what was `expected`.
            StorageError: The disk is full or refuses.
        """
        linked = self._temporary()
        try:
            # Not every file may be linked: another file system, another owner.
            os.link(source.resolve(), linked)
        except OSError:
            return self._copy(source, expected, progress)
        try:
            hashed = hashlib.sha256()
            size = 0
            for piece in _pieces(linked, progress):
                hashed.update(piece)
                size += len(piece)
            digest = Digest(hashed.hexdigest())
            _check(expected or digest, digest)
            with storage_errors():
                publish(linked, self.path(digest))
        finally:
            discard(linked)
        return digest, size

    def _copy(
        self, source: Path, expected: Digest | None, progress: Callable[[int], None]
    ) -> tuple[Digest, int]:
        with self.incoming() as incoming:
            for piece in _pieces(source, progress):
                incoming.write(piece)
            try:
                return incoming.commit(expected)
            except DigestMismatchError as error:
                raise UpstreamError(str(error)) from error

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """What is added to the hold stays until this context ends."""
        mine: set[Digest] = set()

        def add(digest: Digest) -> None:
            with self._lock:
                if digest not in mine:
                    mine.add(digest)
                    self._held[digest] += 1

        try:
            yield Hold(add)
        finally:
            with self._lock:
                self._held.subtract(mine)
                self._held += Counter()

    def expect(self, digest: Digest) -> None:
        """A client will soon create a model with this blob."""
        now = self._clock()
        with self._lock:
            self._expected = {key: end for key, end in self._expected.items() if end > now}
            self._expected[digest] = now + EXPECTED_S

    def settle(self, digests: Iterable[Digest]) -> None:
        """No create is waited for any more: a manifest has these blobs now, or none will."""
        with self._lock:
            for digest in digests:
                self._expected.pop(digest, None)

    def remove(self, digests: Iterable[Digest]) -> set[Digest]:
        """Remove those that are neither held nor expected; which of them went.

        Whoever has one open, or mapped into memory, goes on reading it: Linux keeps the bytes until
        the last of them is done.
        """
        condemned: dict[Digest, Path] = {}
        for digest in digests:
            # Only renamed in here: to unlink what is large takes long.
            with self._lock:
                if self._held[digest] or self._expected.get(digest, 0.0) > self._clock():
                    continue
                self._stamps.forget(digest)
                condemned[digest] = self._temporary()
                with storage_errors():
                    self.path(digest).replace(condemned[digest])
        with storage_errors():
            if condemned:
                sync_folder(self._folder)
            for path in condemned.values():
                path.unlink()
        return set(condemned)

    def ages_s(self) -> dict[Digest, float]:
        """Every blob, with the seconds since it was written."""
        now = time.time()
        found: dict[Digest, float] = {}
        with storage_errors(), os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    digest = Digest.parse(entry.name)
                    found[digest] = now - entry.stat().st_mtime
                except (InvalidNameError, FileNotFoundError):
                    continue
        return found

    def total_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(self.size(digest) or 0 for digest in self.ages_s())

    def _temporary(self) -> Path:
        return self._incoming / uuid.uuid4().hex


def _pieces(path: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
                done += len(piece)
                progress(done)
    except OSError as error:
        raise UpstreamError(f"{path.name} cannot be read: {error.strerror}") from error


def _check(expected: Digest, got: Digest) -> None:
    if expected != got:
        raise UpstreamError(str(DigestMismatchError(expected, got)))
