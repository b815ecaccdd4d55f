"""Which offers this board has heard, and the claims it makes.

Tickets are kept until they are taken, or unheard for three seconds. The choice is the policy's;
this module only remembers, asks, and takes no for an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from time import monotonic

from rkllama_policy.claims import Choice, Offer, choose
from rkllama_policy.cost import left_s, startup_s
from rkllama_protocol import codec
from rkllama_protocol.bus import Bus
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import BodyRequest, Claim, Grant, Job, Taken, Ticket, WorkerBeat
from rkllama_protocol.subjects import GatewayVerb, Subjects

log = logging.getLogger(__name__)

TICKET_S = 3.0
"""A ticket unheard for this long is dropped: its gateway is gone."""
CLAIM_TIMEOUT_S = 1.0
"""A claim unanswered for this long is not run, whatever comes later."""
BODY_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Heard:
    ticket: Ticket
    at: float


class Market:
    """The offers this board knows."""

    def __init__(
        self, *, worker_id: str, bus: Bus, subjects: Subjects, news: asyncio.Event
    ) -> None:
        self._worker_id = worker_id
        self._bus = bus
        self._subjects = subjects
        self._news = news
        self._heard: dict[str, _Heard] = {}
        self._taken: dict[str, tuple[int, float]] = {}
        self._startups: dict[str, tuple[WorkerBeat, dict[tuple[str, int], float]]] = {}
        """What the offers cost each board once it is free, by the beat that this was worked out from."""
        self._ages: dict[str, float] = {}
        """How old that beat is; seconds."""

    async def listen(self) -> None:
        """Hear offers, and what became of them."""
        await self._bus.subscribe(self._subjects.offers, self._on_offer)
        await self._bus.subscribe(self._subjects.taken, self._on_taken)

    def _on_offer(self, _: str, data: bytes) -> None:
        ticket = codec.decode(Ticket, data)
        # An offer and the word that it is taken travel on different subjects.
        taken, _at = self._taken.get(ticket.job_id, (0, 0.0))
        if ticket.attempt <= taken:
            return
        self._heard[ticket.job_id] = _Heard(ticket, monotonic())
        self._news.set()

    def _on_taken(self, _: str, data: bytes) -> None:
        taken = codec.decode(Taken, data)
        self._note_taken(taken.job_id, taken.attempt)

    def _note_taken(self, job_id: str, attempt: int) -> None:
        self._taken[job_id] = (attempt, monotonic())
        heard = self._heard.get(job_id)
        if heard is not None and heard.ticket.attempt <= attempt:
            del self._heard[job_id]

    def choose(self, me: WorkerBeat, heard: Collection[tuple[WorkerBeat, float]]) -> Choice:
        """What to claim now, or when to look again.

        `heard` are the other boards' last beats, and the seconds that each is old.
        """
        now = monotonic()
        self._heard = {k: h for k, h in self._heard.items() if now - h.at < TICKET_S}
        self._taken = {k: t for k, t in self._taken.items() if now - t[1] < TICKET_S}
        offers = [
            Offer(ticket=h.ticket, age_s=h.ticket.age_s + now - h.at) for h in self._heard.values()
        ]
        others = [beat for beat, _ in heard]
        self._ages = {beat.worker_id: age_s for beat, age_s in heard}
        self._startups = {beat.worker_id: self._known(beat) for beat in others}
        return choose(offers, me, others, cost=self._cost)

    def _known(self, board: WorkerBeat) -> tuple[WorkerBeat, dict[tuple[str, int], float]]:
        known = self._startups.get(board.worker_id)
        return known if known is not None and known[0] is board else (board, {})

    def _cost(self, ticket: Ticket, board: WorkerBeat) -> float:
        """`cost_s` by now; but for what is left of its run, worked out once for each beat.

        Every offer is held against every board at each news.
        """
        known = self._startups[board.worker_id] = self._known(board)
        key = (ticket.job_id, ticket.attempt)
        if key not in known[1]:
            known[1][key] = startup_s(ticket, board)
        return left_s(board, self._ages.get(board.worker_id, 0.0)) + known[1][key]

    async def claim(self, ticket: Ticket) -> Job | None:
        """Ask for the job; None if somebody else has it, or its gateway does not answer."""
        # Whatever the answer is, this attempt is not asked for twice.
        self._note_taken(ticket.job_id, ticket.attempt)
        try:
            grant = await self._bus.ask(
                self._subjects.gateway(ticket.gateway_id, self._worker_id, GatewayVerb.CLAIM),
                Claim(job_id=ticket.job_id, attempt=ticket.attempt, worker_id=self._worker_id),
                Grant,
                timeout_s=CLAIM_TIMEOUT_S,
            )
            if not grant.granted:
                return None
            return grant.body or await self._read_body(ticket, grant.body_bytes)
        except RkllamaError as error:
            log.warning("claim failed", extra={"job_id": ticket.job_id, "reason": error.message})
            return None

    async def _read_body(self, ticket: Ticket, size: int) -> Job:
        subject = self._subjects.gateway(ticket.gateway_id, self._worker_id, GatewayVerb.BODY)
        body = bytearray()
        while len(body) < size:
            request = BodyRequest(
                job_id=ticket.job_id,
                attempt=ticket.attempt,
                worker_id=self._worker_id,
                offset=len(body),
            )
            body += await self._bus.request(
                subject, codec.encode(request), timeout_s=BODY_TIMEOUT_S
            )
        return codec.decode(Job, bytes(body))
