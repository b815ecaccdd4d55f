"""Who is taken in: this gateway's queue and everybody's beats, held against the policy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rkllama_policy.admission import Limits, Place, Waiting, admit, in_order
from rkllama_policy.cost import aged
from rkllama_policy.prediction import forecasts
from rkllama_protocol.beats import Observer, hear
from rkllama_protocol.bus import Bus
from rkllama_protocol.lifecycle import JobState
from rkllama_protocol.messages import GatewayBeat, QueuedModel, WorkerBeat
from rkllama_protocol.subjects import JobClass, Subjects
from starlette.requests import Request

from rkllama_gateway.dialects import terms
from rkllama_gateway.job import HeldJob
from rkllama_gateway.offers import Offers

MOST_QUEUES = 64
"""In a beat: models and classes with the most waiting jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a request says beside its body: whose it is, and how it may wait."""

    key: str | None = None
    """Name of the client's key."""
    job_class: JobClass = JobClass.INTERACTIVE
    deadline_s: float = math.inf
    """Seconds within which it wants its first token."""


def terms_of(request: Request) -> Terms:
    """What the request says of itself.

    Raises:
        DialectError: A header of ours is not what it can be.
    """
    return Terms(
        key=request.state.key_name,
        job_class=terms.job_class(request.headers),
        deadline_s=terms.deadline_s(request.headers),
    )


class Admission:
    """The bound on what waits, over all the gateways there are."""

    def __init__(
        self,
        *,
        gateway_id: str,
        bus: Bus,
        subjects: Subjects,
        boards: Observer[WorkerBeat],
        offers: Offers,
        limits: Limits,
        max_wait_s: float,
    ) -> None:
        """`max_wait_s` is the deadline of who names none; 0 is none."""
        self._gateway_id = gateway_id
        self._bus = bus
        self._subjects = subjects
        self._boards = boards
        self._offers = offers
        self._limits = limits
        self._max_wait_s = max_wait_s or math.inf
        self._gateways: Observer[GatewayBeat] = Observer(GatewayBeat)

    async def listen(self) -> None:
        """Hear the other gateways' beats."""
        await self._bus.subscribe(self._subjects.beats("gateway"), self._on_beat)

    def _on_beat(self, subject: str, data: bytes) -> None:
        beat = hear(GatewayBeat, subject, data)
        if beat.gateway_id != self._gateway_id:
            self._gateways.note(beat.gateway_id, beat)

    def forgive(self) -> None:
        """This gateway was disconnected until now."""
        self._gateways.forgive()

    @property
    def others(self) -> list[GatewayBeat]:
        """The other gateways that take requests."""
        return [beat for beat in self._gateways.living() if beat.ready]

    def deadline_s(self, asked: Terms) -> float:
        """Seconds that a request may wait for its first token."""
        return min(asked.deadline_s, self._max_wait_s)

    def admit(self, asking: HeldJob, asked: Terms, held: Iterable[HeldJob]) -> Place:
        """The place of a job behind the ones this gateway holds.

        Raises:
            OverloadedError: It would be one too many.
            ExpiredError: It could not begin before its deadline.
        """
        return admit(
            self._waiting(asking),
            self._queue(held),
            limits=self._limits,
            deadline_s=self.deadline_s(asked),
            gateway_id=self._gateway_id,
            gateways=self.others,
            boards=self._by_now(),
        )

    def queues(self, held: Iterable[HeldJob]) -> tuple[QueuedModel, ...]:
        """What waits here, by model and class, the longest queue first."""
        jobs = {one.job_id: one for one in held}
        ordered = in_order(self._queue(jobs.values()))
        elsewhere_s = sum(row.work_s for beat in self.others for row in beat.queues)
        told = forecasts((one.ticket for one in ordered), self._by_now(), elsewhere_s=elsewhere_s)
        rows: dict[tuple[str, JobClass], QueuedModel] = {}
        for one, forecast in zip(ordered, told, strict=True):
            before = rows.get(one.lane)
            rows[one.lane] = QueuedModel(
                model=one.ticket.model,
                name=jobs[one.ticket.job_id].job.model.name,
                job_class=one.ticket.job_class,
                waiting=1 + (before.waiting if before else 0),
                work_s=forecast.work_s + (before.work_s if before else 0.0),
                wait_s=None if math.isinf(forecast.begins_s) else forecast.first_token_s,
            )
        longest = sorted(rows.values(), key=lambda row: -row.waiting)
        return tuple(longest[:MOST_QUEUES])

    def _by_now(self) -> list[WorkerBeat]:
        """What the boards would say of themselves."""
        return [aged(beat, age_s) for beat, age_s in self._boards.heard()]

    def _queue(self, held: Iterable[HeldJob]) -> list[Waiting]:
        return [self._waiting(one) for one in held if one.state is JobState.WAITING]

    def _waiting(self, held: HeldJob) -> Waiting:
        return Waiting(ticket=self._offers.ticket(held), key=held.key)
