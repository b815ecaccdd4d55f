"""Which job a free board claims, and when: a Dutch auction without an auctioneer.

A job's price is the time it has waited. A board claims it when that price reaches what the job
costs this board more than the best-placed one: the best-placed board claims at once, another one
when waiting for the best has become dearer than doing it here. Every board knows the others by
their beats, so nobody assigns anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rkllama_protocol.messages import Ticket, WorkerBeat
from rkllama_protocol.subjects import JobClass

from rkllama_policy.cost import cost_s

Cost = Callable[[Ticket, WorkerBeat], float]
"""What a job costs a board; whoever asks often remembers what it is made of."""

AGE_WEIGHT = 0.1
"""Seconds of cost that a second of waiting outweighs: age always wins in the end."""
BATCH_PENALTY_S = 60.0
TIE_S = 0.001
"""Costs closer than this are equal."""
TIE_STEP_S = 0.004
"""Between the claims of equally placed boards: longer than a claim takes to be heard of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A ticket and how long its job has waited by now."""

    ticket: Ticket
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Claim `ticket` now, or look again in `wait_s` seconds (infinite: when something changes)."""

    ticket: Ticket | None
    wait_s: float


def _rank(job_id: str, worker_id: str) -> bytes:
    return hashlib.blake2b(f"{job_id}/{worker_id}".encode(), digest_size=8).digest()


def patience_s(
    ticket: Ticket, me: WorkerBeat, others: Collection[WorkerBeat], *, cost: Cost = cost_s
) -> float:
    """Seconds of age from which `me` may claim the job; infinite if it never may."""
    mine = cost(ticket, me)
    if math.isinf(mine):
        return math.inf
    costs = [(other, cost(ticket, other)) for other in others]
    best = min((theirs for _, theirs in costs), default=math.inf)
    if mine > best + TIE_S:
        return mine - best
    # Who still runs cannot claim, however soon it is predicted to be done: nobody steps back for it.
    equals = [
        other.worker_id
        for other, theirs in costs
        if other.running is None and abs(theirs - mine) <= TIE_S
    ]
    if not equals:
        return 0.0
    my_rank = _rank(ticket.job_id, me.worker_id)
    return TIE_STEP_S * sum(_rank(ticket.job_id, equal) < my_rank for equal in equals)


def _dearness(offer: Offer, cost: float) -> float:
    penalty = BATCH_PENALTY_S if offer.ticket.job_class is JobClass.BATCH else 0.0
    return cost + penalty - AGE_WEIGHT * offer.age_s


def choose(
    offers: Sequence[Offer],
    me: WorkerBeat,
    others: Collection[WorkerBeat],
    *,
    cost: Cost = cost_s,
) -> Choice:
    """What `me`, if free, claims among `offers`.

    Class `resume` goes first; then the smallest cost less a tenth of the age; jobs of one gateway
    that cost the same go in the order in which that gateway accepted them.
    """
    if me.running is not None:
        return Choice(ticket=None, wait_s=math.inf)
    ripe: list[tuple[bool, float, float, Offer]] = []
    wait_s = math.inf
    for offer in offers:
        left = patience_s(offer.ticket, me, others, cost=cost) - offer.age_s
        if left > 0:
            wait_s = min(wait_s, left)
            continue
        mine = cost(offer.ticket, me)
        resume = offer.ticket.job_class is JobClass.RESUME
        ripe.append((not resume, _dearness(offer, mine), mine, offer))
    if not ripe:
        return Choice(ticket=None, wait_s=wait_s)
    late, _, least, best = min(ripe, key=lambda row: row[:2])
    # Tickets of one gateway are heard milliseconds apart: their own order is the truth.
    peers = [
        row[3]
        for row in ripe
        if row[0] == late
        and row[3].ticket.gateway_id == best.ticket.gateway_id
        and row[3].ticket.job_class is best.ticket.job_class
        and abs(row[2] - least) <= TIE_S
    ]
    first = min(peers, key=lambda offer: offer.ticket.order)
    return Choice(ticket=first.ticket, wait_s=0.0)
