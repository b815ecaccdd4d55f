"""One HTTP request and its answer over a socket of its own: every byte of the first, every frame of the second."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

HANG_S = 60.0
"""Nothing here takes so long; it only ends what hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request, ready for the wire; `headers` are all there are beside Host and the body's framing."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    host: str | None = None
    """Header `Host`; None for the server's own address."""
    chunked: bool = False
    """Send the body in chunks of 7 bytes instead of with its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An answer; names of headers are in lower case, in the order they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    frames: tuple[bytes, ...] = ()
    """The body as it was chunked; empty if it was not."""

    def header(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name]


def ask(url: str, sent: Sent) -> Received:
    """The answer to a request.

    Raises:
        h11.RemoteProtocolError: What came is no HTTP, or ended too early.
    """
    with _connected(url, sent) as (sock, parser):
        return _received(sock, parser)


@contextmanager
def open_answer(url: str, sent: Sent) -> Iterator[bytes]:
    """Send, and wait for the first bytes of the body; on leaving the connection is closed."""
    with _connected(url, sent) as (sock, parser):
        for event in _events(sock, parser):
            if isinstance(event, h11.Data):
                yield bytes(event.data)
                return
        raise AssertionError("the answer has no body")


@contextmanager
def _connected(url: str, sent: Sent) -> Iterator[tuple[socket.socket, h11.Connection]]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as sock:
        sock.sendall(_bytes(sent, parts.netloc))
        parser = h11.Connection(h11.CLIENT)
        # The parser only has to know what the answer belongs to; it is not sent.
        parser.send(h11.Request(method=sent.method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        yield sock, parser


def _bytes(sent: Sent, netloc: str) -> bytes:
    host = netloc if sent.host is None else sent.host
    headers = [("Host", host), *sent.headers]
    body = sent.body or b""
    if sent.chunked:
        headers.append(("Transfer-Encoding", "chunked"))
        pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    elif sent.body is not None:
        headers.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{sent.method} {sent.target} HTTP/1.1\r\n{head}\r\n".encode() + body


def _events(sock: socket.socket, parser: h11.Connection) -> Iterator[object]:
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(sock.recv(65536))
            continue
        yield event
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return


def _received(sock: socket.socket, parser: h11.Connection) -> Received:
    status = 0
    headers: tuple[tuple[str, str], ...] = ()
    frames: list[bytes] = []
    for event in _events(sock, parser):
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = tuple((k.decode().lower(), v.decode("latin-1")) for k, v in event.headers)
        elif isinstance(event, h11.Data):
            if event.chunk_start or not frames:
                frames.append(b"")
            frames[-1] += bytes(event.data)
    chunked = any(name == "transfer-encoding" for name, _ in headers)
    return Received(
        status=status,
        headers=headers,
        body=b"".join(frames),
        frames=tuple(frames) if chunked else (),
    )
