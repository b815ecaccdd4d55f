"""A client that costs little: one HTTP/1.1 connection, bytes looked at only afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Self

END = b"0\r\n\r\n"
READ_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A streamed request that was answered."""

    first_s: float
    """To the first bytes of the answer."""
    whole_s: float
    raw: bytes
    """All that came, headers included."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The answer's records.

        Raises:
            RuntimeError: It failed.
        """
        head, _, body = self.raw.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self.raw[:500].decode(errors="replace"))
        text = bytearray()
        while body:
            size, _, rest = body.partition(b"\r\n")
            count = int(size, 16)
            text += rest[:count]
            body = rest[count + 2 :] if count else b""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        """The final record: its durations are nanoseconds."""
        record = json.loads(self.raw[: -len(b"\r\n" + END)].rpartition(b"\r\n")[2].splitlines()[-1])
        if not record.get("done"):
            raise RuntimeError(f"the answer ended with {record}")
        return dict(record)

    @property
    def text(self) -> str:
        """What the answer says."""
        return "".join(
            line["message"]["content"] if "message" in line else line["response"]
            for line in self.lines
        )


class Connection:
    """Kept open from request to request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Self:
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=READ_BYTES))

    async def ask(self, path: str, body: dict[str, Any]) -> Asked:
        """One streamed request."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
        first_s, raw = 0.0, bytearray()
        began = time.perf_counter()
        self._writer.write(head.encode() + data)
        while not raw.endswith(END):
            piece = await self._reader.read(READ_BYTES)
            first_s = first_s or time.perf_counter() - began
            if not piece:
                raise RuntimeError(f"the connection ended: {bytes(raw[-500:])!r}")
            raw += piece
            if raw.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                raise RuntimeError(bytes(raw).decode(errors="replace"))
        return Asked(first_s=first_s, whole_s=time.perf_counter() - began, raw=bytes(raw))

    def close(self) -> None:
        self._writer.close()


async def ask(url: str, path: str, body: dict[str, Any]) -> Asked:
    """One request on a connection of its own, which is opened before the clock starts."""
    connection = await Connection.open(url)
    try:
        return await connection.ask(path, body)
    finally:
        connection.close()
