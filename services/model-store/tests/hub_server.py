"""A Hugging Face hub on loopback: real HTTP on two origins, the hub and where it keeps bytes.

It speaks what the real `huggingface_hub` client asks for: model info and tree, resolve with its
headers, a redirect for large files to another origin, which understands Range. Repositories can be
private or gated, and a file can be made to break: `Faults` says how, answer by answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from rkllama_service import http
from starlette.types import Message, Receive, Scope, Send

CHUNK_BYTES = 2**18
TOKEN = "hf_testtoken"  # noqa: S105 - of this hub alone


@dataclass
class Content:
    """The bytes of a file: a block, repeated up to the size, so that none of it need be kept."""

    size: int
    block: bytes
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.sha256:
            return
        hashed = hashlib.sha256()
        left = self.size
        while left > 0:
            hashed.update(self.block[:left] if left < len(self.block) else self.block)
            left -= len(self.block)
        self.sha256 = hashed.hexdigest()

    def read(self, start: int, length: int) -> bytes:
        length = min(length, self.size - start)
        at = start % len(self.block)
        data = self.block[at : at + length]
        while len(data) < length:
            data += self.block[: length - len(data)]
        return data


def of_bytes(data: bytes) -> Content:
    return Content(size=len(data), block=data or b"\0")


def of_seed(seed: int, size: int) -> Content:
    block = random.Random(seed).randbytes(min(size, 2**20 + 7))  # noqa: S311 - to be the same again
    return Content(size=size, block=block)


class Gate:
    """A moment in an answer that a test waits for and holds."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()


@dataclass
class Faults:
    """What goes wrong with a file. Lists are used up, an answer each."""

    statuses: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    """Answers instead of the bytes."""
    die_after: deque[int] = field(default_factory=deque)
    """The connection breaks after so many bytes of the body."""
    gates: deque[tuple[int, Gate]] = field(default_factory=deque)
    """The answer stops before this byte of the file, until the gate is opened or the client gone."""
    ranges: bool = True
    """Range is understood."""
    sends: Content | None = None
    """Other bytes than the hub says."""


@dataclass
class File:
    content: Content
    lfs: bool
    faults: Faults = field(default_factory=Faults)

    @property
    def git_oid(self) -> str:
        data = self.content.read(0, self.content.size) if not self.lfs else b""
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    name: str
    files: dict[str, File] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    base_model: str | list[str] | None = None
    commit: str = "c" * 40
    statuses: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    """Answers instead of the model info."""

    def add(self, path: str, content: Content | bytes, *, lfs: bool = False) -> File:
        whole = of_bytes(content) if isinstance(content, bytes) else content
        self.files[path] = File(whole, lfs=lfs)
        return self.files[path]


@dataclass(frozen=True)
class Seen:
    """One request."""

    server: str
    """`hub` or `bytes`."""
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class HubServer:
    """The hub; what it was asked is in `seen`, which `until` waits for."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        """Of large files."""
        self.url = ""
        self.bytes_url = ""
        self._asked = asyncio.Condition()
        self.encoding: str | None = None
        """A content encoding that answers about repositories claim to have."""

    def repo(self, name: str, **what: Any) -> Repo:
        self.repos[name] = Repo(name, **what)
        return self.repos[name]

    def asked(self, server: str) -> list[Seen]:
        return [one for one in self.seen if one.server == server]

    async def until(self, path: str, *, times: int = 1) -> None:
        """Wait until there have been so many requests whose path contains this."""
        async with self._asked:
            await self._asked.wait_for(lambda: sum(path in one.path for one in self.seen) >= times)

    @asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", *, ports: tuple[int, int] = (0, 0), name: str = ""
    ) -> AsyncIterator[HubServer]:
        """Serve on `host`; `name` is how others call it, where it is not by that address."""
        with http.bind(host, ports[0]) as front, http.bind(host, ports[1]) as back:
            self.url, self.bytes_url = (
                f"http://{name}:{port}" if name else http.url_of(sock)
                for sock, port in zip((front, back), ports, strict=True)
            )
            servers = {front: ("hub", self._hub), back: ("bytes", self._bytes)}
            answers = {sock.getsockname()[1]: answer for sock, answer in servers.items()}

            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                server, answer = answers[scope["server"][1]]
                seen = Seen(
                    server,
                    unquote(scope["path"]),
                    parse_qs(scope["query_string"].decode()),
                    {key.decode(): value.decode() for key, value in scope["headers"]},
                )
                async with self._asked:
                    self.seen.append(seen)
                    self._asked.notify_all()
                await answer(seen, Answer(scope["method"], receive, send))

            async with http.serving(app, [front, back], shutdown_s=1):
                yield self

    async def _hub(self, seen: Seen, answer: Answer) -> None:
        parts = seen.path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            await self._info("/".join(parts[2:4]), parts[4:], seen, answer)
        elif len(parts) >= 5 and parts[2] == "resolve":
            await self._resolve("/".join(parts[:2]), "/".join(parts[4:]), seen, answer)
        else:
            await answer.refuse(404, "RepoNotFound", "Repository not found")

    async def _known(self, name: str, seen: Seen, answer: Answer) -> Repo | None:
        """The repository, if the asker may know that it is there."""
        sent = seen.headers.get("authorization")
        if sent is not None and sent != f"Bearer {TOKEN}":
            await answer.refuse(401, "", "Invalid credentials in Authorization header")
            return None
        repo = self.repos.get(name)
        if repo is None or (repo.private and sent is None):
            status = 401 if sent is None else 404
            await answer.refuse(status, "RepoNotFound", "Repository not found")
            return None
        return repo

    async def _info(self, name: str, rest: list[str], seen: Seen, answer: Answer) -> None:
        repo = await self._known(name, seen, answer)
        if repo is None:
            return
        if repo.statuses:
            status, headers = repo.statuses.popleft()
            await answer.whole(status, b"", headers)
        elif rest[:1] == ["tree"]:
            await answer.json([_tree_entry(path, file) for path, file in repo.files.items()])
        else:
            with_files = "blobs" in seen.query
            headers = {"content-encoding": self.encoding} if self.encoding else {}
            await answer.json(_info(repo, with_files=with_files), headers)

    async def _resolve(self, name: str, path: str, seen: Seen, answer: Answer) -> None:
        repo = await self._known(name, seen, answer)
        if repo is None:
            return
        if repo.gated and "authorization" not in seen.headers:
            await answer.refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
            return
        file = repo.files.get(path)
        if file is None:
            await answer.refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"x-repo-commit": repo.commit, "accept-ranges": "bytes"}
        if file.lfs:
            headers |= {
                "location": f"{self.bytes_url}/{name}/{path}",
                "x-linked-size": str(file.content.size),
                "x-linked-etag": f'"{file.content.sha256}"',
            }
            await answer.whole(302, b"", headers)
        else:
            headers["etag"] = f'"{file.git_oid}"'
            await self._send(file, seen, answer, headers)

    async def _bytes(self, seen: Seen, answer: Answer) -> None:
        user, repo, path = seen.path.strip("/").split("/", 2)
        file = self.repos[f"{user}/{repo}"].files[path]
        await self._send(file, seen, answer, {"etag": f'"{file.content.sha256}"'})

    async def _send(self, file: File, seen: Seen, answer: Answer, headers: dict[str, str]) -> None:
        faults = file.faults
        if faults.statuses:
            status, more = faults.statuses.popleft()
            await answer.whole(status, b"", more)
            return
        content = faults.sends or file.content
        start = 0
        asked = seen.headers.get("range", "")
        if asked and faults.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= content.size:
                await answer.whole(416, b"", {"content-range": f"bytes */{content.size}"})
                return
            end = content.size - 1
            headers["content-range"] = f"bytes {start}-{end}/{content.size}"
        status = 206 if "content-range" in headers else 200
        await answer.begin(status, {**headers, "content-length": str(content.size - start)})
        if answer.method == "HEAD":
            await answer.piece(b"", more=False)
            return
        dies_at = start + faults.die_after.popleft() if faults.die_after else None
        stop, gate = faults.gates.popleft() if faults.gates else (None, None)
        at = start
        while at < content.size:
            if gate is not None and at == stop:
                gate.reached.set()
                if not await answer.held(gate):
                    return
                gate = None
            ends = [at + CHUNK_BYTES, content.size]
            ends += [edge for edge in (dies_at, stop) if edge is not None and edge > at]
            data = content.read(at, min(ends) - at)
            await answer.piece(data)
            at += len(data)
            if file.lfs:
                self.sent_bytes += len(data)
            if dies_at is not None and at >= dies_at:
                # Less than was announced: the server can only break the connection.
                return
        await answer.piece(b"", more=False)


class Answer:
    """One answer, in ASGI's terms, so that it can be broken off."""

    def __init__(self, method: str, receive: Receive, send: Send) -> None:
        self.method = method
        self._receive = receive
        self._send = send

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def piece(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        await self.begin(status, {"content-length": str(len(body)), **headers})
        await self.piece(b"" if self.method == "HEAD" else body, more=False)

    async def json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        await self.whole(
            200, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})}
        )

    async def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"x-error-message": message} | ({"x-error-code": code} if code else {})
        await self.whole(status, json.dumps({"error": message}).encode(), headers)

    async def held(self, gate: Gate) -> bool:
        """Wait; whether the client is still there."""
        opened = asyncio.ensure_future(gate.open.wait())
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({opened, gone}, return_when=asyncio.FIRST_COMPLETED)
            return opened.done()
        finally:
            for task in (opened, gone):
                task.cancel()
            await asyncio.wait({opened, gone})

    async def _gone(self) -> Message:
        while (message := await self._receive())["type"] != "http.disconnect":
            pass
        return message


def _info(repo: Repo, *, with_files: bool) -> dict[str, Any]:
    card: dict[str, Any] = {"license": "apache-2.0"}
    if repo.base_model is not None:
        card["base_model"] = repo.base_model
    siblings = []
    for path, file in repo.files.items():
        entry: dict[str, Any] = {"rfilename": path}
        if with_files:
            entry |= {"size": file.content.size, "blobId": file.git_oid}
            if file.lfs:
                entry["lfs"] = {
                    "sha256": file.content.sha256,
                    "size": file.content.size,
                    "pointerSize": 134,
                }
        siblings.append(entry)
    return {
        "_id": "6" * 24,
        "id": repo.name,
        "modelId": repo.name,
        "sha": repo.commit,
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "disabled": False,
        "downloads": 1,
        "likes": 0,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "tags": [],
        "cardData": card,
        "siblings": siblings,
    }


def _tree_entry(path: str, file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": file.content.size,
        "oid": file.git_oid,
    }
    if file.lfs:
        entry["lfs"] = {
            "oid": file.content.sha256,
            "size": file.content.size,
            "pointerSize": 134,
        }
    return entry
