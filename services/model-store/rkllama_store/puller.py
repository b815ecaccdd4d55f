"""Brings models in from where they come from; today that is the catalogue.

Whoever pulls a name while it is being pulled joins the work that runs; it stops when the last of
them has gone.
"""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import CollectorRegistry, Counter
from rkllama_protocol.errors import (
    InvalidModelError,
    ModelNotFoundError,
    RkllamaError,
    UpstreamError,
)
from rkllama_protocol.names import Digest, ModelName

from rkllama_store import catalog, gguf_reading
from rkllama_store.announcing import Changes
from rkllama_store.blobs import Blobs
from rkllama_store.catalog import Entry, Packaged
from rkllama_store.draft import Draft
from rkllama_store.library import Library
from rkllama_store.manifests import Layer, MediaType, Stored
from rkllama_store.records import Emit, Record, Throttle, pulling
from rkllama_store.threads import Interrupt, in_thread

log = logging.getLogger(__name__)

MANIFEST = "pulling manifest"
NOT_FOUND = "pull model manifest: file does not exist"
"""The Ollama CLI looks for this very phrase (contract 2.12)."""


class _Pull:
    """One piece of work, and who listens to it."""

    def __init__(self) -> None:
        self.listeners: list[Emit] = []
        self.last: Record | None = None
        self.task: asyncio.Task[RkllamaError | None] | None = None

    def emit(self, record: Record) -> None:
        self.last = record
        for listener in self.listeners:
            listener(record)


class Puller:
    """Pulls, each name once at a time; their tasks live in `tasks`."""

    def __init__(
        self,
        library: Library,
        blobs: Blobs,
        *,
        changes: Changes,
        tasks: asyncio.TaskGroup,
        registry: CollectorRegistry,
    ) -> None:
        self._library = library
        self._blobs = blobs
        self._changes = changes
        self._tasks = tasks
        self._running: dict[str, _Pull] = {}
        self._pulls = Counter(
            "rkllama_store_pulls", "Pulls that ended.", ["outcome"], registry=registry
        )

    async def pull(self, name: ModelName, emit: Emit) -> None:
        """Bring `name` in; cancelled, it goes on for the others who wait for it.

        Raises:
            UpstreamError: It is nowhere, or not what it should be.
            StorageError: The disk is full or refuses.
        """
        pull = self._running.get(name.key)
        if pull is None or pull.task is None:
            pull = self._running[name.key] = _Pull()
            pull.task = self._tasks.create_task(self._run(name, pull))
        elif pull.last is not None:
            emit(Record(status=MANIFEST))
            if pull.last.status != MANIFEST:
                emit(pull.last)
        pull.listeners.append(emit)
        try:
            error = await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(emit)
            if not pull.listeners and not pull.task.done():
                # Whoever asks for the name from now on begins anew.
                self._forget(name, pull)
                pull.task.cancel()
                await asyncio.wait({pull.task})
        if error is not None:
            raise error

    async def _run(self, name: ModelName, pull: _Pull) -> RkllamaError | None:
        outcome = "cancelled"
        try:
            await self._pull(name, pull.emit)
        except RkllamaError as error:
            outcome = error.code
            return error
        except Exception as error:
            outcome = RkllamaError.code
            log.exception("pull failed", extra={"model": name.display})
            return RkllamaError(f"internal error: {type(error).__name__}")
        else:
            outcome = "success"
            return None
        finally:
            self._pulls.labels(outcome).inc()
            self._forget(name, pull)

    def _forget(self, name: ModelName, pull: _Pull) -> None:
        if self._running.get(name.key) is pull:
            del self._running[name.key]

    async def _pull(self, name: ModelName, emit: Emit) -> None:
        emit(Record(status=MANIFEST))
        if (entry := catalog.find(name)) is None:
            raise UpstreamError(NOT_FOUND)

        def placed(layer: Layer, *, new: bool) -> None:
            emit(pulling(Digest.parse(layer.digest), total=layer.size, completed=layer.size))

        with self._blobs.holding() as hold:
            hold.add(entry.weights.digest)
            if (found := await in_thread(lambda: self._whole(name, entry))) is not None:
                for layer in (*found.manifest.layers, found.manifest.config):
                    placed(layer, new=False)
                emit(Record(status="verifying sha256 digest"))
                emit(Record(status="writing manifest"))
                kept = await in_thread(lambda: self._library.copy(found.name, name))
            else:
                await self._fetch(entry.weights, emit)
                draft = Draft(self._library, self._blobs, hold, placed=placed)
                await self._compose(draft, entry)
                manifest = await draft.seal()
                emit(Record(status="verifying sha256 digest"))
                emit(Record(status="writing manifest"))
                kept = await in_thread(lambda: self._library.publish(name, manifest))
        if kept is not None:
            await self._changes.created(kept)

    def _whole(self, name: ModelName, entry: Entry) -> Stored | None:
        """The entry as it is here already, under `name` or another of its names."""
        for known in (name, *entry.names):
            try:
                stored = self._library.stored(known)
                self._library.check_whole(stored.manifest)
            except (ModelNotFoundError, InvalidModelError):
                continue
            if catalog.is_made_of(entry, stored.manifest):
                return stored
        return None

    async def _fetch(self, weights: Packaged, emit: Emit) -> None:
        """Have the weights' blob, and say how far that is."""
        if await in_thread(lambda: self._blobs.size(weights.digest)) == weights.size:
            return
        if (path := await in_thread(weights.find)) is None:
            raise UpstreamError(f"the package {weights.package} is not installed")
        loop = asyncio.get_running_loop()
        interrupt = Interrupt()
        throttle = Throttle()

        def progress(done: int) -> None:
            interrupt.check()
            if done < weights.size and throttle.due():
                record = pulling(weights.digest, total=weights.size, completed=done)
                loop.call_soon_threadsafe(emit, record)

        await in_thread(
            lambda: self._blobs.adopt(path, weights.digest, progress=progress),
            interrupt=interrupt,
        )

    async def _compose(self, draft: Draft, entry: Entry) -> None:
        weights = entry.weights
        draft.take(MediaType.WEIGHTS, weights.digest, size=weights.size, title=weights.file_name)
        await draft.complete(await gguf_reading.report(self._blobs.path(weights.digest)))
        await draft.add(MediaType.TEMPLATE, entry.template.encode())
        await draft.add(MediaType.LICENSE, entry.license.encode())
