"""A store's blobs on a real HTTP port, and boards that fetch from it, in a test's own process."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from rkllama_protocol.messages import (
    ADAPTER_TYPE,
    WEIGHTS_TYPE,
    Descriptor,
    ModelDetails,
    ResolvedModel,
)
from rkllama_service import http
from rkllama_store import app
from rkllama_store.blobs import Blobs
from rkllama_store.folder import owned
from rkllama_worker.cache import Cache
from rkllama_worker.fetcher import Fetcher

MIB = 2**20


class Shop:
    """A store's blobs, served, and what a board needs to know to fetch them."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self.blobs = Blobs(root)

    def model(self, *files: bytes, name: str = "m", adapter: bytes = b"") -> ResolvedModel:
        layers = [
            Descriptor(media_type=WEIGHTS_TYPE, digest=d, size=len(data), name=f"{at}.rkllm")
            for at, data in enumerate(files)
            for d in [self.put(data)]
        ]
        if adapter:
            layers.append(
                Descriptor(media_type=ADAPTER_TYPE, digest=self.put(adapter), size=len(adapter))
            )
        return ResolvedModel(
            name=name,
            full_name=name,
            digest=f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
            size=0,
            modified_at="",
            details=ModelDetails(format="rkllm"),
            layers=tuple(layers),
        )

    def put(self, data: bytes) -> str:
        with self.blobs.incoming() as incoming:
            incoming.write(data)
            digest, _ = incoming.commit()
        self.blobs.stamp([digest])
        return str(digest)


@asynccontextmanager
async def served(root: Path) -> AsyncIterator[Shop]:
    """A store's blobs in `root`, over HTTP."""
    with owned(root), http.bind("127.0.0.1", 0) as sock:
        shop = Shop(root, http.url_of(sock))
        web = app.build(
            shop.blobs, CollectorRegistry(), not_ready=lambda: "", measure=_nothing_to_measure
        )
        async with http.serving(web, [sock], shutdown_s=1):
            yield shop


async def _nothing_to_measure() -> None:
    """These tests read no metrics."""


class Board:
    """A fetcher over the cache folder of one test; each `with` is another life of its worker."""

    def __init__(self, folder: Path, url: Callable[[], str]) -> None:
        self.shared = folder / "data" / "models" / "blobs"
        self.cache = folder / "cache"
        self.url = url

    @asynccontextmanager
    async def up(self, *, limit_bytes: int | None = None) -> AsyncIterator[Fetcher]:
        async with asyncio.TaskGroup() as tasks:
            fetcher = Fetcher(
                shared=self.shared,
                cache=Cache(self.cache, limit_bytes=limit_bytes),
                store_url=self.url,
                tasks=tasks,
                count=lambda _: None,
                changed=lambda: None,
            )
            async with fetcher:
                yield fetcher

    def names(self) -> set[str]:
        return {path.name for path in self.cache.glob("*/*")}


def some(seed: int, size: int = 3 * MIB) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - to be the same again


def blob_name(data: bytes) -> str:
    return f"sha256-{hashlib.sha256(data).hexdigest()}"
