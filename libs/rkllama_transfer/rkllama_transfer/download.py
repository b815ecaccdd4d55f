"""Fetches blobs over HTTP: resumed where they broke off, even by an earlier process, and checked.

A blob grows as `<sha256>.part`, hashed while it is written, and gets its name when size and sha256
are what they shall be. However many want it, it comes once. A part stays when a fetch is cancelled
or fails, for the next one; it goes when its bytes are wrong.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

import httpx2
from rkllama_protocol.errors import UpstreamError
from rkllama_protocol.names import Digest

from rkllama_transfer.parts import PIECE_BYTES, Part, Room, Sink
from rkllama_transfer.retrying import PassingError, attempts
from rkllama_transfer.sharing import Shared
from rkllama_transfer.threads import Interrupt, in_thread

log = logging.getLogger(__name__)

ATTEMPTS = 10
"""In a row without `WORTH_BYTES` between them: some two minutes."""
WORTH_BYTES = 2**20
"""An attempt that brought so much is none that failed."""
CONNECT_S = 10.0
SILENCE_S = 30.0
"""A connection that brings nothing for so long is given up."""

Say = Callable[[int], None]
"""Told how many bytes are here."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class WrongBytesError(UpstreamError):
    """What came is not what was announced."""


class Source(Protocol):
    """Where one file is fetched from."""

    @property
    def name(self) -> str:
        """How sentences call the file."""

    @property
    def authority(self) -> str:
        """Who says how large the file is, and what its digest: `the hub`."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    def request(self) -> tuple[str, dict[str, str]]:
        """URL and headers for the next attempt.

        Raises:
            UpstreamError: There is none; a `PassingError` where there may soon be one.
        """

    def refused(self, status: int, headers: Mapping[str, str]) -> UpstreamError:
        """The error for an answer that is none."""

    def unreachable(self, error: httpx2.TransportError) -> UpstreamError:
        """The error for a connection that failed or broke."""


def http_client(*, max_redirects: int, trust_env: bool) -> httpx2.AsyncClient:
    """A client for large files; `trust_env` is whether proxies of the environment are used.

    It reads the machine's certificates, which takes a while.
    """
    # httpx leaves `authorization` out when it is sent on to another origin.
    return httpx2.AsyncClient(
        follow_redirects=max_redirects > 0,
        max_redirects=max_redirects,
        trust_env=trust_env,
        timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S, pool=None),
        headers={"accept-encoding": "identity", "user-agent": "rkllama"},
    )


class Downloads:
    """Fetches with one client, made by `client` in a thread when it is first needed.

    Used as a context, that ends after the last fetch. `count` is told of bytes as they come.
    """

    def __init__(
        self,
        client: Callable[[], httpx2.AsyncClient],
        *,
        tasks: asyncio.TaskGroup,
        count: Callable[[int], None],
    ) -> None:
        self._make = client
        self._count = count
        self._client: httpx2.AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._blobs: Shared[None, int] = Shared(tasks)

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

    async def blob(
        self,
        source: Source,
        digest: Digest,
        say: Say,
        *,
        part: Callable[[], Part],
        room: Room,
        again: bool = False,
    ) -> None:
        """Have the blob with this sha256.

        `say` is called on the event loop, for every piece; who comes while others wait for the same
        blob waits with them. Bytes that turn out wrong are fetched once more if some of them came
        in an earlier fetch, and with `again` in any case.

        Raises:
            UpstreamError: It does not come; a `WrongBytesError` if it is not what it shall be.
            StorageError: The disk is full or refuses.
        """

        async def fetch(said: Say) -> None:
            await self._fetch(source, digest, said, part=part, room=room, again=again)

        await self._blobs.join(digest.hex, fetch, say)

    async def fill(self, source: Source, sink: Sink, say: Say) -> None:
        """Read on until the sink has the source's size; errors as `blob`."""
        while sink.size < source.size:
            async for attempt in attempts(ATTEMPTS):
                with attempt:
                    before = sink.size
                    try:
                        await self._read(source, sink, say)
                    except PassingError as error:
                        log.info("fetch broke off", extra={"reason": error.message})
                        if sink.size - before < WORTH_BYTES:
                            raise

    async def _fetch(
        self,
        source: Source,
        digest: Digest,
        say: Say,
        *,
        part: Callable[[], Part],
        room: Room,
        again: bool,
    ) -> None:
        with await in_thread(part) as here:
            interrupt = Interrupt()
            await in_thread(
                lambda: here.recall(most=source.size, check=interrupt.check), interrupt=interrupt
            )
            resumed = here.size > 0
            if resumed:
                log.info("fetch resumed", extra={"digest": str(digest), "bytes": here.size})
            with room.reserved(source.name, lambda: source.size - here.size):
                await self._complete(source, here, say)
                if here.digest != digest and (resumed or again):
                    # Power that went at the wrong moment can leave a part with a hole in it.
                    log.warning("fetch begun again", extra={"digest": str(digest)})
                    await in_thread(here.reset)
                    await self._complete(source, here, say)
            if here.digest != digest:
                await in_thread(here.discard)
                raise WrongBytesError(
                    f"{source.name} is not what {source.authority} says: "
                    f"digest mismatch, expected {digest}, got {here.digest}"
                )
            await in_thread(here.publish)
        log.info("fetch finished", extra={"digest": str(digest), "bytes": source.size})

    async def _complete(self, source: Source, part: Part, say: Say) -> None:
        say(part.size)
        try:
            await self.fill(source, part, say)
        except WrongBytesError:
            await in_thread(part.discard)
            raise

    async def _read(self, source: Source, sink: Sink, say: Say) -> None:
        """Read on as far as one answer goes."""
        client = await self._connected()
        url, headers = source.request()
        if sink.size:
            headers["range"] = f"bytes={sink.size}-"
        try:
            async with client.stream("GET", url, headers=headers) as answer:
                if answer.status_code == 416:
                    raise WrongBytesError(f"{source.name} is shorter than {source.authority} says")
                if answer.status_code not in {200, 206}:
                    raise source.refused(answer.status_code, answer.headers)
                if answer.status_code == 200 and sink.size:
                    await in_thread(sink.reset)
                _check(answer, source, at=sink.size)
                await self._take(answer, source, sink, say)
        except httpx2.TransportError as error:
            raise source.unreachable(error) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UpstreamError(f"{source.name} cannot be fetched: {error}") from error

    async def _take(self, answer: httpx2.Response, source: Source, sink: Sink, say: Say) -> None:
        gathered = bytearray()
        try:
            # Raw: what is unpacked on the way could fill the memory.
            async for piece in answer.aiter_raw():
                gathered += piece
                self._count(len(piece))
                here = sink.size + len(gathered)
                if here > source.size:
                    gathered.clear()
                    raise WrongBytesError(f"{source.name} is longer than {source.authority} says")
                say(here)
                if len(gathered) >= PIECE_BYTES:
                    full, gathered = gathered, bytearray()
                    await _write(sink, full)
        finally:
            if gathered:
                await _write(sink, gathered)
        if sink.size < source.size:
            raise PassingError(f"the end of {source.name} did not come")

    async def _connected(self) -> httpx2.AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await in_thread(self._make)
        return self._client


def _check(answer: httpx2.Response, source: Source, *, at: int) -> None:
    """Refuse an answer that goes on elsewhere than `at`, or belongs to another file."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise UpstreamError(f"{source.name} comes encoded, which was not asked for")
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None or int(found[1]) != at:
            raise UpstreamError(f"{source.name} does not go on where it broke off")
        total = found[3]
    else:
        total = answer.headers.get("content-length", "*")
    if total.isdigit() and int(total) != source.size:
        raise WrongBytesError(
            f"{source.name} has {total} bytes, and {source.authority} says {source.size}"
        )


async def _write(sink: Sink, data: bytearray) -> None:
    await in_thread(lambda: sink.write(bytes(data)))
