"""Fetches a hub's files: resumed where they broke off, even by an earlier process, and checked.

A large file grows as `incoming/<sha256>.part`, hashed while it is written, and becomes a blob when
size and sha256 are what the hub's file information says. However many pulls want it, it comes once.
A part stays when a fetch is cancelled or fails, for the next one; it goes when its bytes are wrong,
and at the store's start when nobody has gone on with it for `folder.PART_DAYS`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx2
from prometheus_client import CollectorRegistry, Counter
from rkllama_protocol.errors import UpstreamError
from rkllama_protocol.names import Digest

from rkllama_store.blobs import Blobs
from rkllama_store.hub import Hub, HubFile, unreachable
from rkllama_store.parts import PIECE_BYTES, Memory, Part, Sink
from rkllama_store.refusals import refused
from rkllama_store.retrying import PassingError, attempts
from rkllama_store.sharing import Shared
from rkllama_store.threads import Interrupt, in_thread

log = logging.getLogger(__name__)

ATTEMPTS = 10
"""In a row without `WORTH_BYTES` between them: some two minutes."""
WORTH_BYTES = 2**20
"""An attempt that brought so much is none that failed."""
SMALL_BYTES = 64 * 2**20
"""What a file may have whose sha256 the hub does not know."""
CONNECT_S = 10.0
SILENCE_S = 30.0
"""A connection that brings nothing for so long is given up."""
REDIRECTS = 5

Say = Callable[[int], None]
"""Told how many bytes are here."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _WrongBytesError(UpstreamError):
    """What came is not what the hub said there was."""


class Transfers:
    """Fetches from one hub into one store; used as a context, that ends after the last fetch."""

    def __init__(
        self, hub: Hub, blobs: Blobs, *, tasks: asyncio.TaskGroup, registry: CollectorRegistry
    ) -> None:
        self._hub = hub
        self._blobs = blobs
        self._client: httpx2.AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._large: Shared[None, int] = Shared(tasks)
        self._bytes = Counter(
            "rkllama_store_fetched_bytes", "Bytes that came from a hub.", registry=registry
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

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
        await self._large.join(digest.hex, lambda said: self._fetch(file, digest, said), say)

    async def small(self, file: HubFile) -> bytes:
        """The bytes of a file that the hub keeps in git itself; errors as `blob`, but for the disk's."""
        if file.size > SMALL_BYTES:
            raise UpstreamError(
                f"{file.path} in {file.repo} is too large for a file without sha256"
            )
        memory = Memory()
        await self._fill(file, memory, lambda _: None)
        if memory.git_oid() != file.git_oid:
            raise UpstreamError(
                f"{file.path} in {file.repo} is not what the hub says: expected git blob "
                f"{file.git_oid[:12]}, got {memory.git_oid()[:12]}"
            )
        return memory.taken()

    async def _fetch(self, file: HubFile, digest: Digest, say: Say) -> None:
        with await in_thread(lambda: self._blobs.part(digest)) as part:
            interrupt = Interrupt()
            await in_thread(
                lambda: part.recall(most=file.size, check=interrupt.check), interrupt=interrupt
            )
            resumed = part.size > 0
            if resumed:
                log.info("fetch resumed", extra={"digest": str(digest), "bytes": part.size})
            with self._blobs.room.reserved(file.path, lambda: file.size - part.size):
                await self._complete(file, digest, part, say)
                if part.digest != digest and resumed:
                    # Power that went at the wrong moment can leave a part with a hole in it.
                    log.warning("fetch begun again", extra={"digest": str(digest)})
                    await in_thread(part.reset)
                    await self._complete(file, digest, part, say)
            if part.digest != digest:
                await in_thread(part.discard)
                raise UpstreamError(
                    f"{file.path} in {file.repo} is not what the hub says: "
                    f"digest mismatch, expected {digest}, got {part.digest}"
                )
            await in_thread(part.publish)
        log.info("fetch finished", extra={"digest": str(digest), "bytes": file.size})

    async def _complete(self, file: HubFile, digest: Digest, part: Part, say: Say) -> None:
        say(part.size)
        try:
            await self._fill(file, part, say)
        except _WrongBytesError:
            await in_thread(part.discard)
            raise

    async def _fill(self, file: HubFile, sink: Sink, say: Say) -> None:
        """Read on until the sink has the file's size."""
        self._hub.check_online()
        while sink.size < file.size:
            async for attempt in attempts(ATTEMPTS):
                with attempt:
                    before = sink.size
                    try:
                        await self._read(file, sink, say)
                    except PassingError as error:
                        log.info("fetch broke off", extra={"reason": error.message})
                        if sink.size - before < WORTH_BYTES:
                            raise

    async def _read(self, file: HubFile, sink: Sink, say: Say) -> None:
        """Read on as far as one answer goes."""
        client = await self._connected()
        headers = self._hub.headers()
        if sink.size:
            headers["range"] = f"bytes={sink.size}-"
        try:
            async with client.stream("GET", self._hub.url(file), headers=headers) as answer:
                if answer.status_code not in {200, 206}:
                    raise self._refused(answer, file)
                if answer.status_code == 200 and sink.size:
                    await in_thread(sink.reset)
                _check(answer, file, at=sink.size)
                await self._take(answer, file, sink, say)
        except httpx2.TransportError as error:
            raise unreachable(self._hub.site, error) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UpstreamError(f"{file.path} in {file.repo} cannot be fetched: {error}") from error

    async def _take(self, answer: httpx2.Response, file: HubFile, sink: Sink, say: Say) -> None:
        gathered = bytearray()
        try:
            # Raw: what is unpacked on the way could fill the memory.
            async for piece in answer.aiter_raw():
                gathered += piece
                self._bytes.inc(len(piece))
                here = sink.size + len(gathered)
                if here > file.size:
                    gathered.clear()
                    raise _WrongBytesError(
                        f"{file.path} in {file.repo} is longer than the hub says"
                    )
                say(here)
                if len(gathered) >= PIECE_BYTES:
                    full, gathered = gathered, bytearray()
                    await _write(sink, full)
        finally:
            if gathered:
                await _write(sink, gathered)
        if sink.size < file.size:
            raise PassingError(f"the end of {file.path} did not come")

    def _refused(self, answer: httpx2.Response, file: HubFile) -> UpstreamError:
        if answer.status_code == 416:
            return _WrongBytesError(f"{file.path} in {file.repo} is shorter than the hub says")
        return refused(
            answer.status_code,
            answer.headers,
            what=file.path,
            repo=file.repo,
            site=self._hub.site,
            token=self._hub.has_token,
        )

    async def _connected(self) -> httpx2.AsyncClient:
        async with self._connecting:
            if self._client is None:
                # In a thread, for it reads the machine's certificates.
                self._client = await in_thread(_client)
        return self._client


def _client() -> httpx2.AsyncClient:
    # httpx leaves `authorization` out when it is sent on to another origin.
    return httpx2.AsyncClient(
        follow_redirects=True,
        max_redirects=REDIRECTS,
        timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S, pool=None),
        headers={"accept-encoding": "identity", "user-agent": "rkllama"},
    )


def _check(answer: httpx2.Response, file: HubFile, *, at: int) -> None:
    """Refuse an answer that goes on elsewhere than `at`, or belongs to another file."""
    name = f"{file.path} in {file.repo}"
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise UpstreamError(f"{name} comes encoded, which was not asked for")
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None or int(found[1]) != at:
            raise UpstreamError(f"{name} does not go on where it broke off")
        total = found[3]
    else:
        total = answer.headers.get("content-length", "*")
    if total.isdigit() and int(total) != file.size:
        raise _WrongBytesError(f"{name} has {total} bytes, and the hub says {file.size}")


async def _write(sink: Sink, data: bytearray) -> None:
    await in_thread(lambda: sink.write(bytes(data)))
