"""Conversations whose contexts are kept in files, so that another one may have the live context meanwhile.

<saved>/
  <hash>.<number>         the hash is that of the conversation (`rkllama_policy.conversation`)
  <hash>.<number>.part    an engine writes it
  lock                    one worker at a time

A file is found by a hash of the conversation that is salted with the client's key, so no other
conversation and no other key ever gets it; and it is read only by the model, the runtime's version and the
context length that wrote it. Nothing outlives the worker: such files are removed at the start, and at the end.
Whatever else is in the folder, somebody's who named one that he uses, is left alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from rkllama_policy.conversation import HASH_BYTES, held_tokens
from rkllama_policy.cost import restorable, worth_saving
from rkllama_policy.eviction import SavedFile, to_forget
from rkllama_protocol.messages import Speed, Ticket

from rkllama_worker.engine.saving import PART_SUFFIX
from rkllama_worker.engine.wire import RunEnded, Saving

if TYPE_CHECKING:
    from rkllama_worker.residency import Resident

log = logging.getLogger(__name__)

LOCK = "lock"
REFUSED_S = 600.0
"""How long a runtime that did not do what it was asked to is not asked again: a disk that was full may have room by then."""
_OURS = re.compile(rf"[0-9a-f]{{{2 * HASH_BYTES}}}\.\d+({re.escape(PART_SUFFIX)})?")
"""Names of the files that are removed."""

Reader = tuple[str, str, int]
"""Who can read a file: model digest, runtime version, context length in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    path: Path
    reader: Reader
    size: int
    used_at: float


class SavedContexts:
    """One board's. Its methods run on the worker's event loop, what they do to files on threads."""

    def __init__(
        self, root: Path, *, limit_bytes: int, max_age_s: float, refused_s: float = REFUSED_S
    ) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._max_age_s = max_age_s
        self._refused_s = refused_s
        self._lock_fd = -1
        self._files: dict[str, _Saved] = {}
        self._refused: dict[Reader, float] = {}
        """Whose runtime did not write, or not read, what it was asked to, and until when it is not asked again."""
        self._written = 0

    async def open(self) -> None:
        """Have the folder, without what a worker before left there. Where that cannot be, nothing is saved."""
        if not self._limit_bytes:
            return
        try:
            await asyncio.to_thread(self._open)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("conversations are not saved", extra={"reason": reason})

    async def close(self) -> None:
        """Remove all of them, and the folder, if there is nothing else in it."""
        self._files.clear()
        if self._lock_fd >= 0:
            await asyncio.to_thread(self._close)
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of the conversations that are kept."""
        return tuple(self._files)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self._files.values())

    def plan(self, ticket: Ticket, entry: Resident, speed: Speed) -> Saving | None:
        """What a run of the job on a model that is ready does with files; None if nothing.

        `entry.holds` is what its context holds before the run.
        """
        reader = _reader(entry)
        if self._lock_fd < 0 or reader is None or monotonic() < self._refused.get(reader, 0.0):
            return None
        readable = [name for name, file in self._files.items() if file.reader == reader]
        held = held_tokens(ticket, entry.holds)
        restore = restorable(ticket, speed, held=held, saved=readable)
        save_to = ""
        if worth_saving(ticket, speed):
            self._written += 1
            save_to = str(self._root / f"{ticket.chain[-1].hash}.{self._written}")
        if not restore and not save_to:
            return None
        return Saving(restore=str(self._files[restore].path) if restore else "", save_to=save_to)

    async def note(
        self, ticket: Ticket, entry: Resident, saving: Saving, ended: RunEnded | None
    ) -> None:
        """What came of a plan; `ended` is None if the engine died."""
        now = monotonic()
        gone: list[Path] = []
        reader = _reader(entry)
        for name, file in list(self._files.items()):
            if str(file.path) != saving.restore:
                continue
            if ended is not None and ended.restored:
                self._files[name] = _used(file, now)
            else:
                # Also where the engine died: whatever it was, the file is not tried again.
                gone.append(self._files.pop(name).path)
        if ended is None:
            if saving.save_to:
                # It may have died between its renaming and its last word.
                gone += [Path(saving.save_to), Path(saving.save_to + PART_SUFFIX)]
        elif reader is not None:
            useless = ended.restored and not ended.reused_tokens and not ended.aborted
            if ended.restored is False or ended.save_refused or useless:
                log.warning("runtime saved no context", extra={"model": entry.model.name})
                self._refused[reader] = now + self._refused_s
            if ended.saved_bytes:
                gone += self._add(ticket, reader, Path(saving.save_to), ended.saved_bytes, now)
        gone += self._forget(now)
        await asyncio.to_thread(_discard, gone)

    async def expire(self) -> None:
        """Remove those that nobody went on with for too long."""
        if gone := self._forget(monotonic()):
            await asyncio.to_thread(_discard, gone)

    def _add(self, ticket: Ticket, reader: Reader, path: Path, size: int, now: float) -> list[Path]:
        """Keep a file; those that it makes useless, for they hold the begin of the same conversation."""
        links = {link.hash for link in ticket.chain}
        older = [self._files.pop(name).path for name in links & self._files.keys()]
        saved = _Saved(path=path, reader=reader, size=size, used_at=now)
        self._files[ticket.chain[-1].hash] = saved
        return older

    def _forget(self, now: float) -> list[Path]:
        files = [
            SavedFile(hash=name, size=file.size, used_at=file.used_at)
            for name, file in self._files.items()
        ]
        names = to_forget(files, now=now, limit_bytes=self._limit_bytes, max_age_s=self._max_age_s)
        return [self._files.pop(name).path for name in names]

    def _open(self) -> None:
        # What people said is in these files: they are for nobody else.
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(self._ours())
        except OSError:
            os.close(fd)
            raise
        self._lock_fd = fd

    def _close(self) -> None:
        # What cannot be removed now, the next worker removes.
        with suppress(OSError):
            _remove([*self._ours(), self._root / LOCK])
            self._root.rmdir()

    def _ours(self) -> list[Path]:
        return [path for path in self._root.iterdir() if _OURS.fullmatch(path.name)]


def _reader(entry: Resident) -> Reader | None:
    if not entry.saves_as:
        return None
    return entry.model.digest, entry.saves_as, entry.context_length


def _used(file: _Saved, now: float) -> _Saved:
    return _Saved(path=file.path, reader=file.reader, size=file.size, used_at=now)


def _remove(paths: Collection[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _discard(paths: Collection[Path]) -> None:
    """Remove what nobody will ask for again; a disk that refuses costs no more than the room."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("saved context not removed", extra={"reason": error.strerror})
