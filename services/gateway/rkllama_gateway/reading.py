"""Request bodies: read within bounds, and decoded without holding up other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rkllama_gateway.dialects.errors import UnreadBodyError
from rkllama_gateway.dialects.failing import BUSY, RETRY_AFTER_S

T = TypeVar("T")

DECODE_HERE_BYTES = 2**20
"""A longer body is decoded in a thread."""
LINGER_S = 2.0
"""How long what a refused client goes on sending is thrown away."""


class Bodies:
    """The bodies of all requests that are open.

    What a request asks for is held until it is answered, so its bytes count until then.
    """

    def __init__(self, *, most_bytes: int, most_together_bytes: int) -> None:
        """One alone may have `most_bytes`, whatever all may."""
        self._most_bytes = most_bytes
        self._most_together_bytes = max(most_bytes, most_together_bytes)
        self.held_bytes = 0

    async def read(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of the body. Whoever has answered the request must `let_go`.

        Raises:
            DialectError: 413 if it is too large, 503 if all together are, and then no more of it is kept; or
                what `parse` refused with.
        """
        body = await self._read(request)
        if len(body) <= DECODE_HERE_BYTES:
            return parse(body)
        return await asyncio.to_thread(parse, body)

    async def _read(self, request: Request) -> bytes:
        # The server has checked that it is a number, and that no more comes than it says.
        self._check(request, int(request.headers.get("content-length", 0)), held=0)
        body = bytearray()
        request.state.body_bytes = 0
        async for piece in request.stream():
            self._check(request, len(body) + len(piece), held=len(body))
            body += piece
            self.held_bytes += len(piece)
            request.state.body_bytes = len(body)
        return bytes(body)

    def _check(self, request: Request, size: int, *, held: int) -> None:
        """Refuse a body of `size` bytes, of which `held` are counted."""
        if size > self._most_bytes:
            request.state.rejected = "payload"
            raise UnreadBodyError(413, "request body too large")
        if self.held_bytes - held + size > self._most_together_bytes:
            request.state.rejected = "memory"
            raise UnreadBodyError(503, BUSY, retry_after_s=RETRY_AFTER_S)

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
