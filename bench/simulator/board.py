"""One board: what it has loaded and holds, what it runs, and what it says of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rkllama_policy.cost import overdue_s, ready_s, run_s, unread_s
from rkllama_policy.eviction import to_evict
from rkllama_policy.learning import Measured, learned
from rkllama_protocol.messages import (
    ModelDetails,
    ResidentModel,
    RunningJob,
    Speed,
    Ticket,
    WorkerBeat,
)

from bench.simulator.traffic import MEAN_ANSWER, Model

KEEP_ALIVE_S = 300.0
FORMAT = "rkllm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What every board of a cluster is."""

    most_models: int = 2
    most_saved: int = 0
    """Conversations whose prompt caches a board keeps."""
    restore_s: float = 0.3
    """Assumed: nobody has measured it on a board."""


def speeds_of(models: Sequence[Model], *, restore_s: float) -> dict[str, Speed]:
    """What every board knows of every model from the start, by digest."""
    return {
        model.digest: Speed(
            model=model.digest,
            load_s=model.speeds.load_s,
            prefill_s_per_token=model.speeds.prefill_s_per_token,
            decode_s_per_token=model.speeds.decode_s_per_token,
            tokens_per_answer=MEAN_ANSWER,
            restore_s=restore_s,
        )
        for model in models
    }


@dataclass(eq=False, slots=True, kw_only=True)
class Board:
    """A board in virtual time; `now` is passed in, in seconds."""

    name: str
    equipment: Equipment
    speeds: dict[str, Speed]
    """What it has learned, by the model's digest."""
    loads: int = 0
    version: int = 0
    """Counts up whenever anything but the time left of its run changes."""
    _models: dict[str, ResidentModel] = field(default_factory=dict)
    _used_at: dict[str, float] = field(default_factory=dict)
    _saved: list[str] = field(default_factory=list)
    _job: Ticket | None = None
    _free_at: float = 0.0
    """By what it predicts."""
    _overdue_s: float = 0.0
    """What is left of a run at least, as long as it goes on."""

    @property
    def free(self) -> bool:
        """Whether it runs nothing."""
        return self._job is None

    def beat(self, now: float) -> WorkerBeat:
        """What it says of itself."""
        running = None
        if self._job is not None:
            running = RunningJob.model_construct(
                job_id=self._job.job_id,
                model=self._job.model,
                left_s=max(self._overdue_s, self._free_at - now),
                overdue_s=self._overdue_s,
            )
        return WorkerBeat.model_construct(
            worker_id=self.name,
            ready=True,
            max_models=self.equipment.most_models,
            runtimes=(FORMAT,),
            models=tuple(self._models.values()),
            running=running,
            speeds=tuple(self.speeds.values()),
            shares_store=True,
            saved=tuple(self._saved),
        )

    def start(self, ticket: Ticket, now: float) -> float:
        """Run the job from now on; seconds to its first token."""
        beat = self.beat(now)
        loading_s = ready_s(ticket, beat)
        first_s = loading_s + unread_s(ticket, beat)
        self._free_at = now + run_s(ticket, beat)
        self._overdue_s = overdue_s(ticket, beat)
        if loading_s:
            self._load(ticket, now)
        self._job = ticket
        self._hold(ticket, runs=1)
        return first_s

    def end(self, now: float, run: Measured) -> None:
        """The run is over, and took what it took."""
        if self._job is None:
            return
        model = self._job.model
        self.speeds[model] = learned(self.speeds[model], run)
        self._used_at[model] = now
        self._hold(self._job, runs=0)
        self._job = None

    def _hold(self, ticket: Ticket, *, runs: int) -> None:
        # Used last, it stands last.
        model = self._models.pop(ticket.model)
        last = ticket.chain[-1].hash
        if self.equipment.most_saved and not runs:
            others = [name for name in self._saved if not _same(name, last)]
            self._saved = [*others, last][-self.equipment.most_saved :]
        self._models[ticket.model] = model.model_copy(update={"holds": (last,), "runs": runs})
        self.version += 1

    def _load(self, ticket: Ticket, now: float) -> None:
        self.loads += 1
        idle = [
            model.model_copy(update={"expires_in_s": self._used_at[key] + KEEP_ALIVE_S - now})
            for key, model in self._models.items()
        ]
        for digest in _evicted(idle, ticket, self.equipment.most_models):
            del self._models[digest]
        self._used_at[ticket.model] = now
        self._models[ticket.model] = ResidentModel.model_construct(
            digest=ticket.model,
            name=ticket.model,
            full_name=ticket.model,
            details=ModelDetails(),
            size=0,
            size_vram=0,
            context_length=4096,
            state="ready",
            expires_in_s=KEEP_ALIVE_S,
            runs=0,
            holds=(),
        )


def _same(one: str, other: str) -> bool:
    """Whether two links are of one conversation: its name stands before the dot."""
    return one.partition(".")[0] == other.partition(".")[0]


def _evicted(idle: Sequence[ResidentModel], ticket: Ticket, most: int) -> list[str]:
    if any(model.digest == ticket.model for model in idle):
        return [ticket.model]
    evicted = to_evict(idle, need_bytes=0, limit_bytes=1, max_models=most)
    if evicted is None:
        raise ValueError("an idle board can always make room")
    return evicted
