"""A real HTTP server that gives scripted Ollama answers, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rkllama_service import http
from starlette.types import Message, Receive, Scope, Send

HANG_S = 20.0
CUT = object()
"""In a stream: the connection breaks here."""


class Hold:
    """In a stream: nothing more comes until it is released, or the client has gone."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.left = threading.Event()
        """The client has gone while the stream was held."""
        self._go: Callable[[], None] = lambda: None

    def release(self) -> None:
        """Let the stream go on."""
        assert self.reached.wait(HANG_S)
        self._go()

    async def wait(self, receive: Receive) -> bool:
        """Whether the stream goes on."""
        loop = asyncio.get_running_loop()
        released = asyncio.Event()
        self._go = lambda: loop.call_soon_threadsafe(released.set)  # type: ignore[assignment]
        self.reached.set()
        go = asyncio.ensure_future(released.wait())
        gone = asyncio.ensure_future(receive())
        await asyncio.wait([go, gone], return_when=asyncio.FIRST_COMPLETED)
        on = go.done()
        go.cancel()
        gone.cancel()
        if not on:
            self.left.set()
        return on


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer: whole, or a stream of records."""

    status: int = 200
    body: object = None
    """JSON, or bytes as they are."""
    stream: tuple[object, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Scripted:
    """The server's script; the last answer of an endpoint is given again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}

    def on(self, endpoint: str, *replies: Reply) -> None:
        """What `METHOD /path` answers, one after the other."""
        method, _, path = endpoint.partition(" ")
        self._replies[method, path] = list(replies)

    def bodies(self, path: str) -> list[Any]:
        """The JSON that came to a path."""
        return [asked.json for asked in self.asked if asked.path == path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        asked = Asked(method=scope["method"], path=scope["path"], headers=headers, body=body)
        self.asked.append(asked)
        replies = self._replies.get((asked.method, asked.path), [])
        if not replies:
            reply = Reply(status=404, body={"error": f"not scripted: {asked.method} {asked.path}"})
        else:
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        await self._send(reply, receive, send)

    async def _send(self, reply: Reply, receive: Receive, send: Send) -> None:
        content = reply.body if isinstance(reply.body, bytes) else _json(reply.body)
        headers = [(key.encode(), value.encode()) for key, value in reply.headers.items()]
        if reply.stream is None:
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if reply.stream is None:
            await send({"type": "http.response.body", "body": content})
            return
        for step in reply.stream:
            if isinstance(step, Hold):
                if not await step.wait(receive):
                    return
                continue
            if step is CUT:
                raise ConnectionResetError("cut by the script")
            await send(_part(step))
        await send({"type": "http.response.body", "body": b""})


def _part(step: object) -> Message:
    body = step if isinstance(step, bytes) else _json(step) + b"\n"
    return {"type": "http.response.body", "body": body, "more_body": True}


def _json(body: object) -> bytes:
    return b"" if body is None else json.dumps(body, ensure_ascii=False).encode()


@contextmanager
def scripted() -> Iterator[Scripted]:
    """The server, in a thread, on a free port."""
    script = Scripted()
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        with http.bind("127.0.0.1", 0) as sock:
            script.url = http.url_of(sock)
            async with http.serving(script, [sock], shutdown_s=1):
                ready.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(HANG_S)
    try:
        yield script
    finally:
        stops[0]()
        thread.join(HANG_S)


def said(*words: str, thinking: tuple[str, ...] = (), **last: object) -> tuple[object, ...]:
    """The records of one answer of `/api/chat`."""
    pieces = [{"message": {"role": "assistant", "content": "", "thinking": t}} for t in thinking]
    pieces += [{"message": {"role": "assistant", "content": word}} for word in words]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return (*({**piece, "done": False} for piece in pieces), {**end, **last})


def model(**facts: object) -> Reply:
    """An answer of `/api/show`."""
    return Reply(body={"capabilities": ["completion"], "details": {}, "model_info": {}, **facts})
