"""Request bodies: read within a bound, and decoded without holding up other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rkllama_gateway.dialects.errors import DialectError

T = TypeVar("T")

TOO_LARGE = 413
DECODE_HERE_BYTES = 2**20
"""A longer body is decoded in a thread."""
LINGER_S = 2.0
"""How long what a refused client goes on sending is thrown away."""


async def read(request: Request, parse: Callable[[bytes], T], *, most_bytes: int) -> T:
    """What `parse` makes of the body.

    Raises:
        DialectError: 413 if there are more than `most_bytes`, and then no more is kept; or
            what `parse` refused with.
    """
    body = await _body(request, most_bytes)
    if len(body) <= DECODE_HERE_BYTES:
        return parse(body)
    return await asyncio.to_thread(parse, body)


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


async def _body(request: Request, most_bytes: int) -> bytes:
    # The server has checked that it is a number, and that no more comes than it says.
    if int(request.headers.get("content-length", 0)) > most_bytes:
        raise _too_large(request)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise _too_large(request)
    return bytes(body)


def _too_large(request: Request) -> DialectError:
    request.state.rejected = "payload"
    return DialectError(TOO_LARGE, "request body too large")
