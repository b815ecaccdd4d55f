"""Who is let in: the keys that there are now, held against what a request shows.

    file --(stat, at most each second)--> keys --> dialects.access: let in, 401 or 403

A key that is made or revoked counts within a second, without a restart. What is wrong with the
file never lets anyone in: a broken one leaves the last good keys in force, a missing one none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from rkllama_service.key_file import KeyFileError, load
from rkllama_service.keys import Auth, Key, Keys
from rkllama_service.process import SetupError
from starlette.types import Scope

from rkllama_gateway.dialects import access

log = logging.getLogger(__name__)

RECHECK_S = 1.0

_Stamp = tuple[int, ...]
"""Of the file as it was read: inode, size and time of change; or the error of looking at it."""


class Guard:
    """Stands before every route; knows keys by their hashes only."""

    def __init__(
        self,
        auth: Auth,
        path: Path,
        *,
        recheck_s: float = RECHECK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is read only if `auth` asks for keys. Blocks.

        Raises:
            SetupError: The keys cannot be read, or are none.
        """
        self.auth = auth
        self._path = path
        self._recheck_s = recheck_s
        self._clock = clock
        self._checked_at = clock()
        self._keys = Keys()
        self._read: _Stamp = ()
        self._broken: _Stamp = ()
        if auth is Auth.OFF:
            return
        self._read = _stamp(path)
        try:
            self._take(load(path))
        except KeyFileError as error:
            raise SetupError(str(error)) from error

    async def admit(self, scope: Scope) -> access.Refusal | None:
        """Judge a request; None: it is let in.

        `scope["state"]["key_name"]`, which handlers know as `request.state.key_name`, becomes the
        name of the client's key, also where none is needed; None if it sent none that is known.
        """
        key, sent = None, False
        if self.auth is not Auth.OFF:
            texts = access.sent_keys(scope["headers"])
            key, sent = await self._first_known(texts), bool(texts)
        scope.setdefault("state", {})["key_name"] = key.name if key else None
        takes = access.needed(self.auth, scope["path"])
        return access.judge(key.scope if key else None, takes=takes, sent=sent)

    async def _first_known(self, texts: tuple[bytes, ...]) -> Key | None:
        if not texts:
            return None
        now = self._clock()
        if now - self._checked_at >= self._recheck_s:
            self._checked_at = now
            await asyncio.to_thread(self._reread)
        found = (self._keys.find(text) for text in texts)
        return next((key for key in found if key is not None), None)

    def _reread(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._read:
            return
        try:
            self._take(load(self._path))
        except KeyFileError:
            if stamp != self._broken:
                log.exception("keys not read, the last good ones stay in force")
            self._broken = stamp
        else:
            self._read = stamp

    def _take(self, keys: Keys | None) -> None:
        if keys is None:
            log.error("no file of keys, nobody is let in", extra={"path": str(self._path)})
        self._keys = keys or Keys()
        log.info("keys read", extra={"keys": len(self._keys.keys)})


def _stamp(path: Path) -> _Stamp:
    """Something that changes when the file does."""
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    # The time of change, not of writing: a new mode counts too.
    return found.st_ino, found.st_size, found.st_ctime_ns
