"""Brings models in from where they come from: what the product was installed with, or a hub.

Whoever pulls what is being pulled already joins the work that runs; it stops when the last of them
has gone. What a text means is `sources`' decision, which names a model gets is `_names` below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    ModelNotFoundError,
    RkllamaError,
    StorageError,
    UpstreamError,
)
from rkllama_protocol.names import Digest, InvalidNameError, ModelName
from rkllama_transfer.sharing import Shared
from rkllama_transfer.threads import Interrupt, in_thread

from rkllama_store import catalog, family_names, gguf_reading, sources
from rkllama_store.announcing import Changes
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.catalog import Entry, Hosted, Packaged
from rkllama_store.draft import Draft
from rkllama_store.hub_models import HubModels
from rkllama_store.library import Library
from rkllama_store.manifests import Layer, Manifest, MediaType, Stored
from rkllama_store.records import Emit, Record, Throttle, pulling
from rkllama_store.sources import Named, OnHub, Source

MANIFEST = "pulling manifest"
VERIFYING = "verifying sha256 digest"
WRITING = "writing manifest"
NOT_FOUND = "pull model manifest: file does not exist"
"""The Ollama CLI looks for this very phrase (contract 2.12)."""
OUTCOMES = ("success", "cancelled", UpstreamError.code, StorageError.code)
"""The usual ones; others are the codes of further failures."""


class Puller:
    """Pulls, each source once at a time; their tasks live in `tasks`."""

    def __init__(
        self,
        library: Library,
        blobs: Blobs,
        hub_models: HubModels,
        *,
        changes: Changes,
        tasks: asyncio.TaskGroup,
        registry: CollectorRegistry,
        entries: Sequence[Entry] = catalog.ENTRIES,
    ) -> None:
        self._library = library
        self._blobs = blobs
        self._hub_models = hub_models
        self._changes = changes
        self._entries = entries
        self._running: Shared[None, Record] = Shared(tasks)
        # Between the look whether a short name is free and its first use, nobody else may take it.
        self._naming = asyncio.Lock()
        self._pulls = Counter(
            "rkllama_store_pulls", "Pulls that ended, by how.", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self._pulls.labels(outcome)
        self._pulling = Gauge("rkllama_store_pulls_running", "Pulls that go on.", registry=registry)

    async def pull(self, asked: Source | ModelName, emit: Emit) -> None:
        """Bring a model in; cancelled, the work goes on for the others who wait for it.

        Raises:
            UpstreamError: It is nowhere, or not what it should be.
            InvalidJobError: It is for another chip than this one.
            InvalidModelError: Its files do not make a model.
            StorageError: The disk is full or refuses.
        """
        source = sources.parse(asked.full) if isinstance(asked, ModelName) else asked
        emit(Record(status=MANIFEST))
        await self._running.join(source.key, lambda say: self._counted(source, say), emit)

    async def _counted(self, source: Source, emit: Emit) -> None:
        outcome = "cancelled"
        self._pulling.inc()
        try:
            if isinstance(source, Named):
                await self._from_catalogue(source.name, emit)
            else:
                await self._from_hub(source, emit)
            outcome = "success"
        except RkllamaError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = RkllamaError.code
            raise
        finally:
            self._pulling.dec()
            self._pulls.labels(outcome).inc()
            with suppress(StorageError):
                # What this pull kept from going; a disk that refuses is told about by who asks next.
                await in_thread(self._library.release)

    async def _from_hub(self, source: OnHub, emit: Emit) -> None:
        try:
            plan = await self._hub_models.plan(source)
        except UpstreamError as error:
            raise UpstreamError(f"pull model manifest: {error.message}") from error
        name = source.name or _stem(plan.file_name)
        shorts = family_names.candidates(plan.file_name) if source.short_name else iter(())
        if name is None and next(shorts, None) is None:
            raise InvalidJobError(
                f"no name can be made of {plan.file_name}: "
                f"pull {source.repo}/{plan.weights.path}/<name> instead"
            )
        with self._blobs.holding() as hold:
            draft = self._draft(hold, emit)
            await self._hub_models.fetch(plan, draft, hold, emit)
            manifest = await draft.seal()
            emit(Record(status=VERIFYING))
            emit(Record(status=WRITING))
            if name is not None:
                manifest = await self._publish(name, manifest)
            if source.short_name:
                async with self._naming:
                    short = await in_thread(
                        lambda: family_names.choose(
                            plan.file_name, is_free=lambda one: self._is_free(one, manifest)
                        )
                    )
                    if short is not None:
                        await self._publish(short, manifest)

    async def _publish(self, name: ModelName, manifest: Manifest) -> Manifest:
        """Let `name` mean the manifest, or go on meaning the same content of an older commit."""

        def publish() -> tuple[ModelName | None, Manifest]:
            try:
                before = self._library.stored(name).manifest
            except (ModelNotFoundError, InvalidModelError):
                before = None
            if before is not None and before.same_content(manifest):
                # Its blobs may have come anew, in place of damaged ones.
                self._library.renew(before)
                return None, before
            return self._library.publish(name, manifest), manifest

        kept, meant = await in_thread(publish)
        if kept is not None:
            await self._changes.created(kept)
        return meant

    def _is_free(self, name: ModelName, manifest: Manifest) -> bool:
        """Whether a short name means nothing yet, or this model as it was pulled before."""
        if catalog.find(name, self._entries) is not None:
            return False
        try:
            before = self._library.stored(name).manifest
        except ModelNotFoundError:
            return True
        except InvalidModelError:
            return False
        pulled = all(layer.media_type in _FROM_A_HUB for layer in before.layers)
        return pulled and _weights(before) == _weights(manifest)

    def _draft(self, hold: Hold, emit: Emit) -> Draft:
        def placed(layer: Layer, *, new: bool) -> None:
            emit(pulling(Digest.parse(layer.digest), total=layer.size, completed=layer.size))

        return Draft(self._library, self._blobs, hold, placed=placed)

    async def _from_catalogue(self, name: ModelName, emit: Emit) -> None:
        if (entry := catalog.find(name, self._entries)) is None:
            _tell_whole(await in_thread(lambda: self._here(name)), emit)
            return
        with self._blobs.holding() as hold:
            hold.add(entry.weights.digest)
            if (found := await in_thread(lambda: self._whole(name, entry))) is not None:
                _tell_whole(found.manifest, emit)
                kept = await in_thread(lambda: self._library.copy(found.name, name))
            else:
                draft = self._draft(hold, emit)
                await self._compose(draft, entry, hold, emit)
                manifest = await draft.seal()
                emit(Record(status=VERIFYING))
                emit(Record(status=WRITING))
                kept = await in_thread(lambda: self._library.publish(name, manifest))
        if kept is not None:
            await self._changes.created(kept)

    def _here(self, name: ModelName) -> Manifest:
        """A model that comes from nowhere, so that what is here is the newest there is.

        Raises:
            UpstreamError: It is not here either, or not whole.
        """
        try:
            manifest = self._library.stored(name).manifest
            self._library.check_whole(manifest)
        except (ModelNotFoundError, InvalidModelError) as error:
            raise UpstreamError(NOT_FOUND) from error
        return manifest

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

    async def _compose(self, draft: Draft, entry: Entry, hold: Hold, emit: Emit) -> None:
        weights = entry.weights
        match weights:
            case Packaged():
                await self._fetch(weights, emit)
                title = weights.file_name
                draft.take(MediaType.WEIGHTS, weights.digest, size=weights.size, title=title)
            case Hosted():
                await self._hub_models.fetch_pinned(weights, draft, hold, emit)
        report = await gguf_reading.report(self._blobs.path(weights.digest))
        if report.no_tokenizer and isinstance(weights, Hosted):
            await self._hub_models.add_small_files(weights.tokenizer_repo, draft, hold, emit)
        await draft.complete(report)
        if entry.template:
            await draft.add(MediaType.TEMPLATE, entry.template.encode())
        await draft.add(MediaType.LICENSE, entry.license.encode())


_FROM_A_HUB = frozenset({MediaType.WEIGHTS, MediaType.PROJECTOR, MediaType.FILE, MediaType.FACTS})
"""A manifest with any other layer has something of its owner's in it."""


def _tell_whole(manifest: Manifest, emit: Emit) -> None:
    """The records of a pull of which nothing was left to do."""
    for layer in (*manifest.layers, manifest.config):
        emit(pulling(Digest.parse(layer.digest), total=layer.size, completed=layer.size))
    emit(Record(status=VERIFYING))
    emit(Record(status=WRITING))


def _weights(manifest: Manifest) -> set[str]:
    return {layer.digest for layer in manifest.layers if layer.media_type == MediaType.WEIGHTS}


def _stem(file_name: str) -> ModelName | None:
    try:
        return ModelName(model=ModelName.parse(file_name.rpartition(".")[0]).model)
    except InvalidNameError:
        return None
