"""The boards, as the gateway sees them: who is there, and what it asks all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import monotonic
from typing import TypeVar

from rkllama_policy.context import context_fits
from rkllama_protocol.beats import Observer, hear
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import UnreachableError, WorkerNotFoundError
from rkllama_protocol.messages import (
    Accepted,
    DrainRequest,
    Found,
    Keep,
    Message,
    StatusRequest,
    Unload,
    WorkerBeat,
)
from rkllama_protocol.subjects import Subjects, WorkerVerb

STATUS_TIMEOUT_S = 1.0
UNLOAD_TIMEOUT_S = 10.0
REMEMBERED_S = 600.0
"""How long a board that is silent is said to be so."""

M = TypeVar("M", bound=Message)


class Roll:
    """Which boards are there, and which fell silent without a word: these are remembered for a while."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}

    def note(self, beat: WorkerBeat) -> None:
        """A board was heard. One that drains is expected to go, and is not missed."""
        self._heard.pop(beat.worker_id, None)
        if not beat.draining:
            self._heard[beat.worker_id] = self._clock()

    def call(self, living: Collection[str]) -> list[tuple[str, bool]]:
        """The board of each, and whether it is among the living."""
        oldest = self._clock() - REMEMBERED_S
        self._heard = {board: at for board, at in self._heard.items() if at >= oldest}
        return [(board, board in living) for board in self._heard]


class Boards:
    """Every worker that beats."""

    def __init__(self, *, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self.observer: Observer[WorkerBeat] = Observer(WorkerBeat)
        self.context_limits: dict[str, int] = {}
        """Tokens that models were converted for, by their digests; as far as one was ever loaded."""
        self._roll = Roll()

    async def listen(self) -> None:
        """Hear the workers' beats."""
        await self._bus.subscribe(self._subjects.beats("worker"), self._on_beat)

    @property
    def ready(self) -> int:
        """How many workers say that they are ready."""
        return sum(1 for beat in self.observer.living() if beat.ready)

    def up(self) -> list[tuple[str, bool]]:
        """The id of each board that is there or fell silent lately, and whether it is there."""
        return self._roll.call([beat.worker_id for beat in self.observer.living()])

    async def status(self) -> list[WorkerBeat]:
        """How every worker is now, by its own word and not by its last beat."""
        return await self._ask_all(
            self.observer.living(),
            WorkerVerb.STATUS,
            StatusRequest(),
            WorkerBeat,
            STATUS_TIMEOUT_S,
        )

    async def keep(self, model: str, keep_alive_s: float | None, *, num_ctx: int | None) -> bool:
        """Give the model a new keep-alive wherever it is resident; whether it is anywhere.

        With another context than a job that asks for `num_ctx` can use, it is not what was asked for.
        """
        found = await self._ask_all(
            self._holders(model, num_ctx),
            WorkerVerb.KEEP,
            Keep(model=model, keep_alive_s=keep_alive_s),
            Found,
            STATUS_TIMEOUT_S,
        )
        return any(answer.found for answer in found)

    async def unload(self, model: str) -> None:
        """Unload the model everywhere; returns when the idle ones are gone."""
        await self._ask_all(
            self.observer.living(), WorkerVerb.UNLOAD, Unload(model=model), Found, UNLOAD_TIMEOUT_S
        )

    async def drain(self, worker_id: str) -> None:
        """Have a worker bring what it runs to its end, or hand it over, and stop.

        Raises:
            WorkerNotFoundError: There is none of this name.
            UnreachableError: It does not answer.
        """
        known = sorted(beat.worker_id for beat in self.observer.living())
        if worker_id not in known:
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise WorkerNotFoundError(f"worker '{worker_id}' not found: {there}")
        await self._bus.ask(
            self._subjects.worker(worker_id, WorkerVerb.DRAIN),
            DrainRequest(),
            Accepted,
            timeout_s=STATUS_TIMEOUT_S,
            whom=f"worker '{worker_id}'",
        )

    def resident(self) -> frozenset[str]:
        """The digests of the models that boards hold, in whatever state."""
        return frozenset(held.digest for beat in self.observer.living() for held in beat.models)

    def is_resident(self, model: str) -> bool:
        """Whether any board has said that it has the model of this digest loaded."""
        beats = self.observer.living()
        return any(
            held.digest == model and held.state == "ready" for beat in beats for held in beat.models
        )

    def _holders(self, model: str, num_ctx: int | None) -> list[WorkerBeat]:
        return [
            beat
            for beat in self.observer.living()
            if any(
                held.digest == model and held.state == "ready" and context_fits(num_ctx, held)
                for held in beat.models
            )
        ]

    async def _ask_all(
        self,
        beats: list[WorkerBeat],
        verb: WorkerVerb,
        message: Message,
        reply: type[M],
        timeout_s: float,
    ) -> list[M]:
        async def ask(worker_id: str) -> M | None:
            try:
                return await self._bus.ask(
                    self._subjects.worker(worker_id, verb), message, reply, timeout_s=timeout_s
                )
            except UnreachableError:
                # It went away since its last beat: it holds nothing then.
                return None

        answers = await asyncio.gather(*(ask(beat.worker_id) for beat in beats))
        return [answer for answer in answers if answer is not None]

    def _on_beat(self, subject: str, data: bytes) -> None:
        beat = hear(WorkerBeat, subject, data)
        self.observer.note(beat.worker_id, beat)
        for held in beat.models:
            if held.context_limit is not None:
                self.context_limits[held.digest] = held.context_limit
        self._roll.note(beat)
