"""Whether a broker that is connected still answers: one that stands still keeps its connections.

ping ---------> pong   PROBE_S   ping ---------> (nothing for SILENT_S)   silent ... pong   back
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PROBE_S = 0.5
"""Between an answer of the broker and the next question whether it is still there."""
SILENT_S = 0.75
"""A broker that has not answered for this long stands still: what others say does not arrive, and tells nothing
of them. With `PROBE_S` it is noticed before a lease is lost (2 s)."""
READ_S = 0.1


class Liveness:
    """Of one connection at a time."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[bool]],
        *,
        connected: Callable[[], bool],
        back: Callable[[], None],
    ) -> None:
        """`ping` returns whether the broker has answered, or its connection has failed.

        `back` is called when a broker that stood still goes on.
        """
        self._ping = ping
        self._connected = connected
        self._back = back
        self._connection = 0
        """Counts up with each that is lost."""
        self._pings: dict[asyncio.Task[bool], int] = {}
        """Those that are under way, and on which connection."""
        self.answers = True
        """As far as is known."""
        self._stands_still = False
        """This connection is there, and its broker does not answer."""

    def ping(self) -> asyncio.Task[bool]:
        """The way to the broker and back, which is not cut short while its connection lives.

        Of an answer that comes when nobody waits for it any more nats-py 2.16 stops reading.
        """
        task = asyncio.ensure_future(self._ping())
        self._pings[task] = self._connection
        task.add_done_callback(self._pings.pop)
        return task

    def lost(self) -> None:
        """The connection is gone."""
        self._connection += 1
        self.answers = self._stands_still = False

    def found(self) -> None:
        """There is another one; what was asked on those before is answered never."""
        self.answers = True
        for ping, connection in self._pings.items():
            # On the new one there may be pings before anybody says that it is there.
            if connection < self._connection:
                ping.cancel()

    def close(self) -> None:
        """There will be none."""
        for ping in self._pings:
            ping.cancel()

    async def watch(self) -> None:
        """Notice when the broker stands still, and when it goes on; for ever."""
        while True:
            if self._connected():
                await self._probe()
            await asyncio.sleep(PROBE_S)

    async def _probe(self) -> None:
        ping, connection = self.ping(), self._connection
        await asyncio.wait({ping}, timeout=SILENT_S)
        # Where this process itself stood still, the answer is here and has yet to be read.
        await asyncio.wait({ping}, timeout=READ_S)
        if not ping.done() and connection == self._connection:
            log.warning("broker does not answer")
            self.answers, self._stands_still = False, True
        await asyncio.wait({ping})
        if not self._stands_still or ping.cancelled() or not ping.result():
            return
        log.info("broker answers again")
        self.answers, self._stands_still = True, False
        self._back()
