"""The HTTP server's protocol with bounds: what a connection may send, and how slow it may be.

uvicorn bounds neither heads nor the time that anything takes. Here

    a head         has a size, a number of fields, and a time to arrive in      431, 408
    a body         may not stand still: not counted while nobody here reads     408
    what is left   of a body whose request was answered already                 closed
    an answer      is read by its client at some rate at least                  cut off
    a pipeline     has a length, and the server a number of connections         closed, 503

Time is looked at once a second, for all connections together (`sweep`), so that a request costs
nothing for it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rkllama_policy.rate import Pace, retry_after_s
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.refusing import (
    HEAD_TOO_LARGE,
    TOO_SLOW,
    refusal_body,
    too_many_connections,
)

MOST_PIPELINED = 8
"""Requests that a client may send ahead; no client of ours does."""
LINGER_S = 3.0
"""How long what comes after an answer is thrown away before the connection is closed."""
SLOWEST_BYTES_PER_S = 1024.0
"""Below this a peer falls behind: a tenth of what a model writes."""
_ACKED, _ACKED_AT = struct.Struct("=Q"), 120
"""`tcpi_bytes_acked`, and where it stands: eight bytes, 24 words of four and two of eight are before it."""
OLD_HTTP = DialectError(400, "HTTP/1.1 is spoken here")
TWO_HOSTS = DialectError(400, "a request names one host")


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of one server."""

    max_head_bytes: int
    max_head_fields: int
    head_timeout_s: float
    slow_client_s: float
    """Seconds that a client may be behind while it sends a body, or reads an answer."""
    max_connections: int
    max_connections_per_address: int
    """0 is none."""


def bytes_acked(sock: socket.socket) -> int:
    """Bytes that the other end of a TCP connection has confirmed (`tcp_info`, linux/tcp.h)."""
    found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + _ACKED.size)
    return int(_ACKED.unpack_from(found, _ACKED_AT)[0])


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `limits` are those of its class, which `guarded` makes."""

    limits: WireLimits

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._inner = self.app
        self._refused: DialectError | None = None
        self._active: RequestResponseCycle | None = None
        self._head_bytes = 0
        self._head_since: float | None = None
        self._in_head = True
        self._in_body = False
        self._answered_at: float | None = None
        self._received = 0
        self._acked: int | None = None
        self._swept_at = 0.0
        self._sending, self._reading = Pace(SLOWEST_BYTES_PER_S), Pace(SLOWEST_BYTES_PER_S)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _Unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: uvicorn tells the last request that came, which may not be the one at work."""
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    # ------------------------------------------------------------------ what arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; one too many is told so, and many too many are not."""
        super().connection_made(transport)
        self._head_since = self._swept_at = self.loop.time()
        most, most_each = self.limits.max_connections, self.limits.max_connections_per_address
        there = len(self.connections)
        if there > 2 * most:
            transport.abort()
        elif there > most or (most_each and self._from_same_address() > most_each):
            self._refused = too_many_connections()

    def _from_same_address(self) -> int:
        counts: Counter[str | None] = Counter(
            one.client[0] if one.client else None
            for one in self.connections
            if isinstance(one, GuardedProtocol)
        )
        return counts[self.client[0] if self.client else None]

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > self.limits.max_head_bytes:
            self._refuse_at_once(HEAD_TOO_LARGE)
        elif self._idle and self._head_since is None:
            # What is no request yet, empty lines say, may not hold a connection open either.
            self._head_since = self.loop.time()

    @property
    def _idle(self) -> bool:
        return (self.cycle is None or self.cycle.response_complete) and not self._in_body

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """A head is whole: who may not go on gets an answer instead of the application's."""
        if self.transport.is_closing():
            return
        self._in_head, self._in_body, self._head_since = False, True, None
        self._answered_at = None
        self._sending.reset()
        if len(self.pipeline) >= MOST_PIPELINED:
            self.transport.abort()
            return
        refused = self._refused or self._judge_head()
        self.app = self._inner if refused is None else _Refusing(refused)
        super().on_headers_complete()

    def _judge_head(self) -> DialectError | None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.max_head_bytes or len(self.headers) > self.limits.max_head_fields:
            return HEAD_TOO_LARGE
        if sum(name == b"host" for name, _ in self.headers) > 1:
            return TWO_HOSTS
        if self.parser.get_http_version() not in {"1.0", "1.1"}:
            return OLD_HTTP
        return None

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._in_body = False
        # The next head is counted from its first byte, which is in this piece already.
        self._in_head, self._head_bytes = True, 0

    # ------------------------------------------------------------------ once a second

    def sweep(self, now: float) -> None:
        """Close this connection if its client takes too long over something."""
        elapsed_s, self._swept_at = now - self._swept_at, now
        received, self._received = self._received, 0
        if self._is_stuck(elapsed_s):
            self.transport.abort()
        elif self._head_since is not None and now - self._head_since > self.limits.head_timeout_s:
            if self._head_bytes:
                self._refuse_at_once(TOO_SLOW)
            else:
                self.transport.close()
        elif self._in_body and self.cycle is not None:
            self._sweep_body(received, elapsed_s, now)

    def _sweep_body(self, received: int, elapsed_s: float, now: float) -> None:
        if self.cycle.response_complete:
            # An answer needs no more of it; but most clients read only when all is sent.
            self._answered_at = self._answered_at or now
            if now - self._answered_at > LINGER_S:
                self.transport.close()
        elif self.flow.read_paused:
            self._sending.reset()
        elif self._sending.note(received, elapsed_s) > self.limits.slow_client_s:
            self._refuse_at_once(TOO_SLOW)

    def _is_stuck(self, elapsed_s: float) -> bool:
        """Whether the client has taken hardly anything for too long of what waits to be sent."""
        before, self._acked = self._acked, None
        if self.transport.get_write_buffer_size():
            self._acked = bytes_acked(self.transport.get_extra_info("socket"))
        if before is None or self._acked is None:
            self._reading.reset()
            return False
        return self._reading.note(self._acked - before, elapsed_s) > self.limits.slow_client_s

    # ------------------------------------------------------------------ refusing

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        if self._may_speak:
            super().send_400_response(msg)
        else:
            self.transport.close()

    @property
    def _may_speak(self) -> bool:
        """Whether a refusal now cannot be taken for the answer to another request, or a part of it."""
        open_answer = self.cycle is not None and not self.cycle.response_complete
        return not self.pipeline and (self._unanswered_body or not open_answer)

    @property
    def _unanswered_body(self) -> bool:
        return self._in_body and self.cycle is not None and not self.cycle.response_started

    def _refuse_at_once(self, error: DialectError) -> None:
        """Say it if it can be said, and close."""
        if self._may_speak:
            body = refusal_body(
                self.scope["path"] if self._unanswered_body else "/", error, request_id="0" * 24
            )
            head = (
                b"content-type: application/json; charset=utf-8\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n" % len(body)
            )
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()


class _Unchunked:
    """An application for HTTP/1.0, which knows no chunks: an answer of no told length ends with its connection.

    RFC 9112, section 6.1; uvicorn chunks it.
    """

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the application."""
        cycle, has_length = self._cycle, False

        async def plainly(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                has_length = b"content-length" in names
                if not has_length:
                    cycle.chunked_encoding = False
            elif not has_length:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, plainly)


class _Refusing:
    """An application that says one refusal, in the dialect of the path."""

    def __init__(self, error: DialectError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and close the connection."""
        error = self._error
        body = refusal_body(scope["path"], error, request_id=secrets.token_hex(12))
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(body)),
            "connection": "close",
        }
        if error.retry_after_s is not None:
            headers["retry-after"] = str(retry_after_s(error.retry_after_s))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": error.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def guarded(limits: WireLimits) -> type[GuardedProtocol]:
    """The protocol with these limits."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits})


def sweep(connections: Iterable[object], now: float) -> None:
    """Look at every connection of a server; `now` is the event loop's time."""
    for one in tuple(connections):
        if isinstance(one, GuardedProtocol):
            one.sweep(now)
