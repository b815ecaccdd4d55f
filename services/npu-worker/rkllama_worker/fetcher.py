"""Where a model's files are on this board, and how those come here that are not.

    the store's own folder, where this machine has it --> the cache --> the store, over HTTP

On one board nothing is ever copied. Elsewhere a file comes once, is resumed where it broke off, also
by the next process, and stays in the cache for as long as there is room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import httpx2
from rkllama_policy.cost import LARGE_BYTES, files_of
from rkllama_policy.learning import blend
from rkllama_protocol.errors import (
    InvalidModelError,
    RuntimeFailedError,
    StorageError,
    UpstreamError,
)
from rkllama_protocol.messages import Descriptor, ResolvedModel
from rkllama_protocol.names import Digest
from rkllama_transfer.download import Downloads, WrongBytesError, http_client
from rkllama_transfer.retrying import PassingError
from rkllama_transfer.threads import in_thread

from rkllama_worker.cache import Cache

log = logging.getLogger(__name__)

MOST_BLOBS = 64
"""That a beat names."""
LEARNED_FROM_BYTES = 2**20
"""Fewer say more of the overhead than of the line."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Fetcher:
    """The files of one board. To be used as a context; all methods run on the worker's event loop.

    `store_url` is where the store's blobs are read, as far as anybody knows, else empty. `count` is
    told of bytes as they come, `changed` is called when a fetch begins.
    """

    def __init__(
        self,
        *,
        shared: Path,
        cache: Cache,
        store_url: Callable[[], str],
        tasks: asyncio.TaskGroup,
        count: Callable[[int], None],
        changed: Callable[[], None],
    ) -> None:
        self._shared = shared
        self._cache = cache
        self._store_url = store_url
        self._count = count
        self._changed = changed
        self._downloads = Downloads(
            lambda: http_client(max_redirects=0, trust_env=False), tasks=tasks, count=self._came
        )
        self._came_bytes = 0
        self._missing: dict[str, int] = {}
        self._lacked = False
        self.shares_store = False
        """Whether the store's own folder is on this machine."""
        self.blobs: dict[str, int] = {}
        """The large files in the cache, digest to the bytes that are here."""
        self.bytes_per_s: float | None = None
        """Learned; None before the first fetch."""

    async def __aenter__(self) -> Self:
        await self._downloads.__aenter__()
        try:
            await in_thread(self._open_if_there)
        except StorageError as error:
            # It may never be needed, and says so again when it is.
            log.warning("cache not usable", extra={"reason": error.message})
        await self.look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._downloads.__aexit__(kind, error, trace)
        await in_thread(self._cache.close)

    @property
    def missing_bytes(self) -> int:
        """What still has to come of the fetch under way; 0 if there is none."""
        return sum(self._missing.values())

    async def look(self) -> None:
        """Look again what is here: the store may have made its folder since."""
        # A folder that lacks what the store has is not the store's.
        self.shares_store = not self._lacked and await in_thread(self._shared.is_dir)
        held = await in_thread(self._cache.held)
        large = [(str(key), size) for key, size in held.items() if size >= LARGE_BYTES]
        self.blobs = dict(large[:MOST_BLOBS])

    async def files(self, model: ResolvedModel, *, keep: Collection[str]) -> dict[str, Path]:
        """Every file of a model by its digest; what is not here is fetched.

        Cancelled, it leaves what has come for the next time. Digests in `keep` stay in the cache.

        Raises:
            InvalidModelError: The store does not have a file, or has it damaged.
            RuntimeFailedError: It does not come, or finds no room.
        """
        layers = list({layer.digest: layer for layer in files_of(model)}.values())
        found = await in_thread(lambda: self._find_all(layers))
        lacking = [layer for layer in layers if layer.digest not in found]
        if lacking:
            kept = {*keep, *(layer.digest for layer in layers)}
            await self._fetch_all(model, lacking, kept)
            found |= await in_thread(lambda: self._find_all(lacking))
        for layer in layers:
            if layer.digest not in found:
                raise RuntimeFailedError(f"{_called(layer)} of {model.name} went away as it came")
        return found

    async def used(self, model: ResolvedModel) -> None:
        """The model was in use until now: its files are the last that have to make room."""
        await in_thread(lambda: self._find_all(files_of(model)))

    async def _fetch_all(
        self, model: ResolvedModel, lacking: list[Descriptor], keep: Collection[str]
    ) -> None:
        self._missing |= {layer.digest: layer.size for layer in lacking}
        began_at, before = monotonic(), self._came_bytes
        self._changed()
        log.info("fetching", extra={"model": model.name, "bytes": self.missing_bytes})
        try:
            await in_thread(self._cache.open)
            for layer in lacking:
                await self._fetch(model, layer, keep)
                self._missing.pop(layer.digest, None)
            self._lacked = self._lacked or self.shares_store
        except StorageError as error:
            raise RuntimeFailedError(
                f"{model.name} does not fit into this board's cache: {error.message}"
            ) from error
        except (WrongBytesError, _NotThereError) as error:
            raise InvalidModelError(error.message) from error
        except UpstreamError as error:
            raise RuntimeFailedError(
                f"{model.name} does not come from the model store: {error.message}"
            ) from error
        finally:
            for layer in lacking:
                self._missing.pop(layer.digest, None)
            self._learn(self._came_bytes - before, monotonic() - began_at)
            await self.look()

    async def _fetch(self, model: ResolvedModel, layer: Descriptor, keep: Collection[str]) -> None:
        digest = Digest.parse(layer.digest)
        await in_thread(lambda: self._cache.make_room(digest, layer.size, keep=keep))
        await self._downloads.blob(
            _StoreFile(model, layer, self._store_url),
            digest,
            lambda here: self._note(layer, here),
            part=lambda: self._cache.part(digest),
            room=self._cache.room,
            again=True,
        )

    def _open_if_there(self) -> None:
        if self._cache.exists:
            self._cache.open()

    def _find_all(self, layers: list[Descriptor]) -> dict[str, Path]:
        found = {layer.digest: self._find(layer) for layer in layers}
        return {digest: path for digest, path in found.items() if path is not None}

    def _find(self, layer: Descriptor) -> Path | None:
        digest = Digest.parse(layer.digest)
        path = self._shared / digest.file_name
        try:
            if path.stat().st_size == layer.size:
                return path
        except OSError:
            # No folder, no file, or one that may not be read: the cache has it, or the store.
            log.debug("not shared", extra={"digest": layer.digest})
        return self._cache.find(digest, layer.size)

    def _note(self, layer: Descriptor, here: int) -> None:
        self._missing[layer.digest] = layer.size - here

    def _came(self, size: int) -> None:
        self._came_bytes += size
        self._count(size)

    def _learn(self, came_bytes: int, seconds: float) -> None:
        if came_bytes >= LEARNED_FROM_BYTES and seconds > 0:
            self.bytes_per_s = blend(self.bytes_per_s, came_bytes / seconds)


class _NotThereError(UpstreamError):
    """The store has no such blob."""


class _StoreFile:
    """A file of a model, in the store."""

    authority = "its manifest"

    def __init__(
        self, model: ResolvedModel, layer: Descriptor, store_url: Callable[[], str]
    ) -> None:
        self._digest = layer.digest
        self._store_url = store_url
        self.name = f"{_called(layer)} of {model.name}"
        self.size = layer.size

    def request(self) -> tuple[str, dict[str, str]]:
        if not (url := self._store_url()):
            raise PassingError("no model store is heard")
        return f"{url}/blobs/{self._digest}", {}

    def refused(self, status: int, headers: Mapping[str, str]) -> UpstreamError:
        if status == 404:
            return _NotThereError(f"{self.name} is missing or damaged in the model store")
        if status in BUSY:
            return PassingError(f"the model store has trouble of its own ({status})")
        return UpstreamError(f"the model store answered {status} for {self.name}")

    def unreachable(self, error: httpx2.TransportError) -> UpstreamError:
        reason = str(error) or type(error).__name__
        return PassingError(f"the model store cannot be reached: {reason}")


def _called(layer: Descriptor) -> str:
    return layer.name or "the adapter"
