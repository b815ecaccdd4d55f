"""Which models this board holds: loaded on demand, kept alive for a while, evicted to make room.

    absent --load--> loading --> ready --unload--> unloading --> absent

To load is to fetch what is not on this board, to make room in memory, and to start an engine. An
entry exists from the first moment of a load to the end of the process, so that what `ps` shows,
and what the next job costs, is true at any time. Runs are serial on a board, so only one load can
be under way; unloads come from anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

from rkllama_policy.context import context_fits
from rkllama_policy.cost import files_of, memory_bytes, weights_bytes
from rkllama_policy.eviction import to_evict
from rkllama_protocol.errors import InvalidModelError, RuntimeFailedError
from rkllama_protocol.messages import (
    ADAPTER_TYPE,
    WEIGHTS_TYPE,
    Job,
    ResidentModel,
    ResolvedModel,
)

from rkllama_worker.engine.wire import LoadSpec
from rkllama_worker.engine_process import EngineProcess
from rkllama_worker.fetcher import Fetcher
from rkllama_worker.npu import Npu

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class Resident:
    """One model on this board."""

    model: ResolvedModel
    state: Literal["loading", "ready", "unloading"] = "loading"
    engine: EngineProcess | None = None
    size: int
    size_vram: int = 0
    context_length: int = 0
    context_limit: int | None = None
    load_s: float = 0.0
    """What the load took, the start of the process included: who waits for it waits for both."""
    num_ctx: int | None = None
    """What the job that loaded it asked for."""
    domains: range | None = None
    """Of the NPU's address space."""
    keep_alive_s: float
    expires_at: float = math.inf
    """Monotonic; set when the last run ends."""
    runs: int = 0
    holds: tuple[str, ...] = ()
    """Hashes of the conversation that its context holds."""
    evicted: bool = False
    """Others had to go for it."""
    saves_as: str = ""
    """What reads the contexts that its engine saves; empty if it saves none."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def touch(self) -> None:
        """Restart the keep-alive."""
        kept = math.inf if self.keep_alive_s < 0 else self.keep_alive_s
        self.expires_at = monotonic() + kept

    def as_message(self) -> ResidentModel:
        """What beats and `ps` say of it."""
        # While it loads or runs the time does not go: it begins when the last run ends.
        waits = self.runs or math.isinf(self.expires_at)
        left = self.keep_alive_s if waits else max(0.0, self.expires_at - monotonic())
        return ResidentModel(
            digest=self.model.digest,
            name=self.model.name,
            full_name=self.model.full_name,
            details=self.model.details,
            size=self.size,
            size_vram=self.size_vram,
            context_length=self.context_length,
            context_limit=self.context_limit,
            num_ctx=self.num_ctx,
            state=self.state,
            expires_in_s=None if self.keep_alive_s < 0 else left,
            runs=self.runs,
            holds=self.holds,
        )


class Residency:
    """The models of one board. All methods run on the worker's event loop."""

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        limit_bytes: int,
        max_models: int,
        keep_alive_s: float,
        load_timeout_s: float,
        npu: Npu | None,
        changed: Callable[[], None],
    ) -> None:
        self._fetcher = fetcher
        self._limit_bytes = limit_bytes
        self._max_models = max_models
        self._keep_alive_s = keep_alive_s
        self._load_timeout_s = load_timeout_s
        self._npu = npu
        self._changed = changed
        self._models: dict[str, Resident] = {}

    def changed(self) -> None:
        """Tell others how this board is now."""
        self._changed()

    def __iter__(self) -> Iterator[Resident]:
        return iter(tuple(self._models.values()))

    def get(self, digest: str) -> Resident | None:
        """The model with this manifest digest, if it is here in any state."""
        return self._models.get(digest)

    async def acquire(self, job: Job) -> Resident:
        """The job's model, ready, with a run counted on it; loaded first if it must be.

        Raises:
            RkllamaError: It cannot be loaded; the sentence says why.
        """
        entry = self._models.get(job.model.digest)
        if entry is not None and self._must_reload(entry, job):
            await self.unload(entry)
            entry = None
        if entry is None:
            entry = await self._load(job)
        if job.keep_alive_s is not None:
            entry.keep_alive_s = job.keep_alive_s
        entry.runs += 1
        self._changed()
        return entry

    async def release(self, entry: Resident) -> None:
        """End a run: the keep-alive starts again; a model that is not to be kept goes at once."""
        entry.runs -= 1
        entry.touch()
        dead = entry.engine is None or not entry.engine.alive
        if dead or entry.keep_alive_s == 0:
            await self.unload(entry)
        self._changed()

    def keep(self, digest: str, keep_alive_s: float | None) -> bool:
        """Let the keep-alive of a resident model begin again, with a new time if any; whether it is resident."""
        entry = self._models.get(digest)
        if entry is None or entry.state == "unloading":
            return False
        if keep_alive_s is not None:
            entry.keep_alive_s = keep_alive_s
        entry.touch()
        self._changed()
        return True

    async def unload(self, entry: Resident) -> None:
        """End the model's process; returns when its memory is free. A busy one goes when it is idle."""
        if entry.runs or entry.state == "loading":
            entry.keep_alive_s = 0
            return
        if entry.state == "unloading":
            await entry.gone.wait()
            return
        entry.state = "unloading"
        self._changed()
        if entry.engine is not None:
            await entry.engine.close()
        await self._fetcher.used(entry.model)
        if self._models.get(entry.model.digest) is entry:
            del self._models[entry.model.digest]
        entry.gone.set()
        log.info("model unloaded", extra={"model": entry.model.name})
        self._changed()

    async def expire(self) -> None:
        """Unload every idle model whose keep-alive has ended."""
        for entry in self:
            idle = entry.state == "ready" and not entry.runs
            if idle and entry.expires_at <= monotonic():
                await self.unload(entry)

    def next_expiry_s(self) -> float:
        """Seconds until the next idle model's keep-alive ends; infinite if none does."""
        ends = [e.expires_at for e in self._models.values() if e.state == "ready" and not e.runs]
        return max(0.0, min(ends, default=math.inf) - monotonic())

    async def close(self) -> None:
        """End every engine, busy or not."""
        for entry in self:
            if entry.engine is not None:
                await entry.engine.close()
        self._models.clear()

    def _must_reload(self, entry: Resident, job: Job) -> bool:
        if entry.state == "unloading" or entry.engine is None or not entry.engine.alive:
            return True
        return not context_fits(job.num_ctx, entry.as_message())

    async def _load(self, job: Job) -> Resident:
        model = job.model
        entry = Resident(
            model=model,
            size=memory_bytes(weights_bytes(model)),
            num_ctx=job.num_ctx,
            keep_alive_s=self._keep_alive_s,
        )
        self._models[model.digest] = entry
        self._changed()
        try:
            paths = await self._fetcher.files(model, keep=self._in_use())
            # Only now: to fetch may take minutes, in which what is loaded can still be used.
            await self._make_room(entry)
            entry.domains = await self._domains(entry)
            log.info("model loading", extra={"model": model.name})
            begun_at = monotonic()
            entry.engine = await EngineProcess.start(
                self._spec(job, entry, paths),
                timeout_s=self._load_timeout_s,
                inherited_fds=self._npu.inherited_fds if self._npu else (),
            )
        except BaseException:
            del self._models[model.digest]
            entry.gone.set()
            self._changed()
            raise
        ready = entry.engine.ready
        entry.load_s = monotonic() - begun_at
        entry.state = "ready"
        # What is on an accelerator at all is shown as wholly there: clients read a split as "slow".
        entry.size = ready.memory_bytes
        entry.size_vram = entry.size if ready.accelerator_bytes else 0
        entry.context_length = ready.context_length
        entry.context_limit = ready.context_limit
        entry.saves_as = ready.saves_as
        log.info("model loaded", extra={"model": model.name, "load_s": entry.load_s})
        return entry

    def _in_use(self) -> set[str]:
        """Digests of every file that a model here is loaded from."""
        return {layer.digest for entry in self for layer in entry.model.layers}

    async def _make_room(self, entry: Resident) -> None:
        """Unload others until `entry` fits."""
        while True:
            held = [other.as_message() for other in self if other is not entry]
            evicted = to_evict(
                held,
                need_bytes=entry.size,
                limit_bytes=self._limit_bytes,
                max_models=self._max_models,
            )
            if evicted is None:
                raise RuntimeFailedError(
                    f"the model needs about {entry.size >> 20} MiB, "
                    f"more than this board has free of its {self._limit_bytes >> 20} MiB"
                )
            if not evicted:
                return
            entry.evicted = True
            for digest in evicted:
                await self.unload(self._models[digest])

    async def _domains(self, entry: Resident) -> range | None:
        """IOMMU domains of a model that goes onto the NPU: no two share one; others unload for it."""
        model = entry.model
        if self._npu is None or model.details.format != "rkllm":
            return None
        while True:
            holders = [other for other in self if other.domains is not None]
            used = [other.domains for other in holders if other.domains is not None]
            try:
                return self._npu.domains_for(weights_bytes(model), used)
            except RuntimeFailedError:
                evicted = to_evict(
                    [other.as_message() for other in holders],
                    need_bytes=0,
                    limit_bytes=self._limit_bytes,
                    max_models=len(holders),
                )
                if not evicted:
                    raise
            entry.evicted = True
            for digest in evicted:
                await self.unload(self._models[digest])

    def _spec(self, job: Job, entry: Resident, paths: Mapping[str, Path]) -> LoadSpec:
        model = job.model
        files: dict[str, str] = {}
        adapters: list[str] = []
        weights = ""
        for layer in files_of(model):
            path = str(paths[layer.digest])
            if layer.media_type == ADAPTER_TYPE:
                adapters.append(path)
                continue
            files[layer.name] = path
            if layer.media_type == WEIGHTS_TYPE:
                weights = path
        if not weights:
            raise InvalidModelError(f"{model.name} has no weights")
        return LoadSpec(
            name=model.name,
            model_format=model.details.format,
            weights=weights,
            files=files,
            pools="embedding" in model.capabilities and "completion" not in model.capabilities,
            adapters=tuple(adapters),
            template=model.template,
            num_ctx=job.num_ctx,
            sampling=job.sampling,
            rkllm=self._npu.spec(entry.domains) if self._npu and entry.domains else None,
        )
