"""Request bodies: read within bounds, and decoded without holding up other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rkllama_gateway.dialects.errors import DialectError, UnreadBodyError
from rkllama_gateway.dialects.failing import RETRY_AFTER_S

T = TypeVar("T")

DECODE_HERE_BYTES = 2**20
"""A longer body is decoded in a thread."""
SMALL_BYTES = 64 * 2**10
"""A body of this size always gets through: connections are bounded too."""
MOST_OBJECTS = 100_000
"""Of a body, as its braces count: decoded, and made messages of, each takes some 1.3 KB."""
MOST_VALUES = 1_000_000
"""The same of commas: what they part takes a hundred bytes or less."""
LINGER_S = 2.0
"""How long what a refused client goes on sending is thrown away."""

TOO_LARGE = "request body too large"
TOO_LARGE_TOGETHER = "server busy, please try again.  the open requests are too large together"


class Bodies:
    """The bodies of all requests that are open, but for small ones.

    What a request asks for is held until it is answered, so its bytes count until then.
    """

    def __init__(self, *, most_bytes: int, most_together_bytes: int) -> None:
        """A single body may have `most_bytes`, also where that is more than all together may have."""
        self._most_bytes = most_bytes
        self._most_together_bytes = max(most_bytes, most_together_bytes)
        self.held_bytes = 0

    async def read(
        self,
        request: Request,
        parse: Callable[[bytes], T],
        *,
        unpack: Callable[[bytes], bytes] | None = None,
    ) -> T:
        """What `parse` makes of the body, unpacked. Whoever has answered the request must `let_go`.

        Raises:
            DialectError: 413 if it is too large, 503 if all together are, and then no more of it is kept; or
                what `unpack` or `parse` refused with.
        """
        body = await self._read(request)
        if unpack is not None:
            body = unpack(body)
            self._count(request, len(body))
        if len(body) <= DECODE_HERE_BYTES:
            return parse(body)
        if body.count(b"{") > MOST_OBJECTS or body.count(b",") > MOST_VALUES:
            raise self._refusal(request, "payload", DialectError(413, TOO_LARGE))
        return await asyncio.to_thread(parse, body)

    async def _read(self, request: Request) -> bytes:
        # The server has checked that it is a number, and that no more comes than it says.
        self._count(request, int(request.headers.get("content-length", 0)))
        body = bytearray()
        async for piece in request.stream():
            body += piece
            self._count(request, len(body))
        return bytes(body)

    def _count(self, request: Request, size: int) -> None:
        """The request's body has `size` bytes, or more."""
        if size > self._most_bytes:
            raise self._refusal(request, "payload", UnreadBodyError(413, TOO_LARGE))
        more = size - request.scope.get("state", {}).get("body_bytes", 0)
        if size <= SMALL_BYTES or more <= 0:
            return
        if self.held_bytes + more > self._most_together_bytes:
            error = UnreadBodyError(503, TOO_LARGE_TOGETHER, retry_after_s=RETRY_AFTER_S)
            raise self._refusal(request, "memory", error)
        self.held_bytes += more
        request.state.body_bytes = size

    def _refusal(self, request: Request, reason: str, error: DialectError) -> DialectError:
        # What was read of it is kept no longer than this takes.
        self.let_go(request.scope)
        request.state.rejected = reason
        return error

    def let_go(self, scope: Scope) -> None:
        """The request has been answered, or its client is gone."""
        self.held_bytes -= scope.get("state", {}).pop("body_bytes", 0)


class LingeringResponse(Response):
    """Answers a client that is still sending its request.

    Most clients read only when all is sent, and a connection that is closed meanwhile takes the
    answer with it: for a moment the rest is read, and kept nowhere.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the connection's header says that it is closed then."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    continue
        await send({"type": "http.response.body", "body": b""})
