"""Fetches a hub's files into the store: the large ones as blobs, the small ones that git keeps whole.

A part that is left behind goes at the store's start, when nobody has gone on with it for long.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx2
from prometheus_client import CollectorRegistry, Counter
from rkllama_protocol.errors import UpstreamError
from rkllama_protocol.names import Digest
from rkllama_transfer.download import Downloads, Say, http_client
from rkllama_transfer.threads import in_thread

from rkllama_store.blobs import Blobs
from rkllama_store.hub import Hub, HubFile, unreachable
from rkllama_store.refusals import refused

SMALL_BYTES = 64 * 2**20
"""What a file may have whose sha256 the hub does not know."""
REDIRECTS = 5


class Transfers:
    """Fetches from one hub into one store; used as a context, that ends after the last fetch."""

    def __init__(
        self, hub: Hub, blobs: Blobs, *, tasks: asyncio.TaskGroup, registry: CollectorRegistry
    ) -> None:
        self._hub = hub
        self._blobs = blobs
        fetched = Counter(
            "rkllama_store_fetched_bytes", "Bytes that came from a hub.", registry=registry
        )
        self._downloads = Downloads(
            lambda: http_client(max_redirects=REDIRECTS, trust_env=True),
            tasks=tasks,
            count=fetched.inc,
        )

    async def __aenter__(self) -> Self:
        await self._downloads.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._downloads.__aexit__(kind, error, trace)

    async def blob(self, file: HubFile, digest: Digest, say: Say) -> None:
        """Have the blob of a file with this sha256, which the caller holds.

        `say` is called on the event loop, for every piece; who comes while others wait for the same
        blob waits with them.

        Raises:
            UpstreamError: It does not come, or is not what the hub says it is.
            StorageError: The disk is full or refuses.
        """
        if await in_thread(lambda: self._blobs.size(digest)) == file.size:
            return
        await self._downloads.blob(
            _Source(self._hub, file),
            digest,
            say,
            part=lambda: self._blobs.part(digest),
            room=self._blobs.room,
        )

    async def small(self, file: HubFile) -> bytes:
        """The bytes of a file that the hub keeps in git itself; errors as `blob`, but for the disk's."""
        if file.size > SMALL_BYTES:
            raise UpstreamError(
                f"{file.path} in {file.repo} is too large for a file without sha256"
            )
        memory = _Memory()
        await self._downloads.fill(_Source(self._hub, file), memory, lambda _: None)
        if memory.git_oid() != file.git_oid:
            raise UpstreamError(
                f"{file.path} in {file.repo} is not what the hub says: expected git blob "
                f"{file.git_oid[:12]}, got {memory.git_oid()[:12]}"
            )
        return bytes(memory.data)


class _Source:
    """A file of the hub."""

    authority = "the hub"

    def __init__(self, hub: Hub, file: HubFile) -> None:
        self._hub = hub
        self._file = file
        self.name = f"{file.path} in {file.repo}"
        self.size = file.size

    def request(self) -> tuple[str, dict[str, str]]:
        self._hub.check_online()
        return self._hub.url(self._file), self._hub.headers()

    def refused(self, status: int, headers: Mapping[str, str]) -> UpstreamError:
        return refused(
            status,
            headers,
            what=self._file.path,
            repo=self._file.repo,
            site=self._hub.site,
            token=self._hub.has_token,
        )

    def unreachable(self, error: httpx2.TransportError) -> UpstreamError:
        return unreachable(self._hub.site, error)


class _Memory:
    """A sink for a small file."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def reset(self) -> None:
        self.data.clear()

    def git_oid(self) -> str:
        """What git calls this content."""
        head = b"blob %d\0" % len(self.data)
        return hashlib.sha1(head + self.data, usedforsecurity=False).hexdigest()
