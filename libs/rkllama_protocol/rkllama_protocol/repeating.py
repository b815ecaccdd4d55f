"""Asking again what a broker that restarts has lost: for questions that change nothing.

lost ---------> back   REJOIN_S: those who answer may take as long to be there again
  `-- what was asked is asked again ----------'
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from rkllama_protocol.errors import UnreachableError

REJOIN_S = 3.0
"""After the broker was lost or found, how long it and those who answer may take to be there again."""
REPEAT_S = 0.1


class Repeating:
    """The questions of one process, over all of its connections."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()
        """The present connection is."""
        self._turned_at = monotonic()
        """When the broker was last lost or found."""

    def lost(self) -> None:
        """The connection is gone."""
        self._turned_at = monotonic()
        self._lost.set()

    def back(self) -> None:
        """The broker is there, and answers."""
        self._turned_at = monotonic()
        self._lost.clear()

    async def ask(self, request: Callable[[float], Awaitable[bytes]], timeout_s: float) -> bytes:
        """The answer of `request`, which is told the seconds that it may take.

        Raises:
            UnreachableError: There was none in `timeout_s`, or none though the broker stayed.
            RkllamaError: What the other end failed with.
        """
        until = monotonic() + timeout_s
        while True:
            asking = asyncio.ensure_future(request(until - monotonic()))
            losing = asyncio.ensure_future(self._lost.wait())
            try:
                await asyncio.wait({asking, losing}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    return asking.result()
                failure = UnreachableError("the broker is unreachable")
            except UnreachableError as error:
                failure = error
            finally:
                asking.cancel()
                losing.cancel()
                await asyncio.gather(asking, losing, return_exceptions=True)
            now = monotonic()
            if now - self._turned_at > REJOIN_S or now + REPEAT_S > until:
                raise failure
            await asyncio.sleep(REPEAT_S)
