"""Whether a gateway takes a job in, and what it tells the client about its place.

    bound      jobs of one model and class that wait, shared evenly among the gateways there are
    per key    jobs of one key that wait in this gateway
    deadline   the first token is predicted for later than it is wanted

Whoever is refused is told when to come again: when the next job that stands in its way will begin.
Class `resume` is none of admission's business: what was taken in is brought to its end.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rkllama_protocol.errors import ExpiredError, OverloadedError
from rkllama_protocol.messages import GatewayBeat, Ticket, WorkerBeat
from rkllama_protocol.subjects import JobClass

from rkllama_policy.prediction import Forecast, forecasts

LANES = (JobClass.RESUME, JobClass.INTERACTIVE, JobClass.BATCH)
"""In the order in which boards take them."""
NO_BOARD_S = 30.0
"""When to come again while no board there is could run the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may wait; 0 is no bound, where that is said."""

    waiting: int
    """Jobs of each model and class, over all gateways; at least 1."""
    waiting_per_key: int = 0
    """Jobs of each key, in this gateway; 0 is no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that waits in this gateway, or asks to."""

    ticket: Ticket
    key: str | None = None
    """Name of the client's key; None if it came without."""

    @property
    def lane(self) -> tuple[str, JobClass]:
        """What is bounded together."""
        return self.ticket.model, self.ticket.job_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job that was taken in stood at that moment."""

    ahead: int
    """Jobs that wait and go before it, over all gateways."""
    wait_s: float
    """Predicted seconds to its first token; infinite while no board can run it."""


def share(bound: int, gateway_id: str, gateways: Collection[str]) -> int:
    """This gateway's part of `bound` among `gateways`, itself included; at least 1.

    What cannot be divided goes to the first of them by name, so that all agree without talking.
    """
    names = sorted({gateway_id, *gateways})
    each, rest = divmod(bound, len(names))
    return max(1, each + (names.index(gateway_id) < rest))


def in_order(queue: Sequence[Waiting]) -> list[Waiting]:
    """The jobs of this gateway as boards take them, as far as it can tell."""
    return sorted(queue, key=lambda one: (LANES.index(one.ticket.job_class), one.ticket.order))


def admit(
    asking: Waiting,
    queue: Sequence[Waiting],
    *,
    limits: Limits,
    deadline_s: float = math.inf,
    gateway_id: str,
    gateways: Collection[GatewayBeat],
    boards: Collection[WorkerBeat],
) -> Place:
    """The place of `asking` behind `queue`, the jobs that wait in this gateway.

    `gateways` are the other ones that are ready.

    Raises:
        OverloadedError: It would be one too many.
        ExpiredError: Its first token is predicted for after its deadline.
    """
    ordered = in_order([*queue, asking])
    mine = LANES.index(asking.ticket.job_class)
    elsewhere = [
        row for beat in gateways for row in beat.queues if LANES.index(row.job_class) <= mine
    ]
    elsewhere_s = sum(row.work_s for row in elsewhere)

    def predicted() -> Iterator[tuple[Waiting, Forecast]]:
        tickets = (one.ticket for one in ordered)
        return zip(ordered, forecasts(tickets, boards, elsewhere_s=elsewhere_s), strict=True)

    most = share(limits.waiting, gateway_id, [beat.gateway_id for beat in gateways])
    if sum(one.lane == asking.lane for one in queue) >= most:
        begins = (told.begins_s for one, told in predicted() if one.lane == asking.lane)
        raise OverloadedError(
            "too many requests wait for the model", retry_after_s=_retry_after_s(next(begins))
        )
    if asking.key is not None and 0 < limits.waiting_per_key <= sum(
        one.key == asking.key for one in queue
    ):
        begins = (told.begins_s for one, told in predicted() if one.key == asking.key)
        raise OverloadedError(
            "too many requests of this key wait", retry_after_s=_retry_after_s(next(begins))
        )
    wait_s = next(told.first_token_s for one, told in predicted() if one is asking)
    if deadline_s < wait_s < math.inf:
        raise ExpiredError(
            f"the answer is predicted to begin in {math.ceil(wait_s)} s, "
            f"which is later than the {deadline_s:g} s that were asked for",
            retry_after_s=_retry_after_s(wait_s - deadline_s),
        )
    ahead = ordered.index(asking) + sum(row.waiting for row in elsewhere)
    return Place(ahead=ahead, wait_s=wait_s)


def _retry_after_s(seconds: float) -> float:
    """Whole seconds, as the header has them."""
    return NO_BOARD_S if math.isinf(seconds) else float(max(1, math.ceil(seconds)))
