"""One client's connection while it is answered: the status is held until the first byte is known.

Whatever fails before that has a status of its own; what fails later is told in the stream. The
connection is watched meanwhile, so that a client that goes away, also one that still waits, is
noticed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.types import Receive, Send

from rkllama_gateway.dialects.errors import DialectError, UnreadBodyError

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
JSON_IN_STREAM = "application/json"
LINES: Mapping[str, str] = {"content-type": NDJSON}


class ErrorWriter(Protocol):
    """How a dialect writes a failure down."""

    def error_body(self, error: DialectError) -> bytes:
        """As an answer of its own."""

    def error_line(self, error: DialectError) -> bytes:
        """At the end of a stream."""


def refusal_headers(error: DialectError) -> dict[str, str]:
    """Headers that belong to a failure."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, UnreadBodyError):
        # So nothing can follow it.
        headers["connection"] = "close"
    return headers


class Connection:
    """The sending half of a client's connection."""

    def __init__(
        self,
        send: Send,
        errors: ErrorWriter,
        *,
        stream: bool,
        whole_type: str = JSON,
        stream_headers: Mapping[str, str] = LINES,
    ) -> None:
        """`whole_type` is the content type of an answer to a client that wants no stream."""
        self._send = send
        self._whole_type = whole_type
        self._stream_headers = stream_headers
        self._errors = errors
        self._stream = stream
        self._started = False
        self._headers: dict[str, str] = {}

    @property
    def started(self) -> bool:
        """Whether the status is sent."""
        return self._started

    def add_header(self, name: str, value: str) -> None:
        """Add a header to the answer; too late once it is `started`."""
        self._headers[name] = value

    async def lines(self, lines: bytes) -> None:
        """Send pieces of a stream; the first starts it with 200."""
        if not self._started:
            await self._start(200, dict(self._stream_headers))
        await self._send({"type": "http.response.body", "body": lines, "more_body": True})

    async def end(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def whole(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send the only piece of an answer that is no stream."""
        content_type = content_type or self._whole_type
        length = {"content-type": content_type, "content-length": str(len(body))}
        await self._start(status, length | (headers or {}))
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: DialectError) -> None:
        """Say that it failed: with a status if none is sent, else as the stream's last line."""
        if self._started:
            line = self._errors.error_line(error)
            await self._send({"type": "http.response.body", "body": line})
            return
        await self.whole(
            self._errors.error_body(error),
            status=error.status,
            content_type=JSON_IN_STREAM if self._stream else None,
            headers=refusal_headers(error),
        )

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self._started = True
        every = headers | self._headers
        raw = [(name.encode(), value.encode()) for name, value in every.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


@asynccontextmanager
async def watching(receive: Receive, on_gone: Callable[[], object]) -> AsyncIterator[None]:
    """Call `on_gone` if the client goes away inside this context. Its body must have been read."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        on_gone()

    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
