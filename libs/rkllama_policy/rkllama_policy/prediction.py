"""When the jobs that wait will begin: what a gateway tells clients, and by which it refuses them.

The waiting jobs are dealt out in their order, each to the board that would give its first token
soonest; a board that has run a model has it loaded for the next one. Boards decide for themselves
by a finer rule (`claims`), so this is a prediction and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from rkllama_protocol.messages import Ticket, WorkerBeat

from rkllama_policy.cost import (
    answer_tokens,
    decode_s,
    left_s,
    ready_s,
    refusal,
    speed_of,
    unread_s,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Seconds from now; all infinite where no board can run the job."""

    begins_s: float
    """A board takes it."""
    first_token_s: float
    ends_s: float

    @property
    def work_s(self) -> float:
        """How long it keeps its board; 0 where there is none."""
        return 0.0 if math.isinf(self.begins_s) else self.ends_s - self.begins_s


NEVER = Forecast(begins_s=math.inf, first_token_s=math.inf, ends_s=math.inf)

_Kind = tuple[str, int | None]
"""Of a load: the model, and the context length that is asked for."""


def forecasts(
    queue: Iterable[Ticket], boards: Collection[WorkerBeat], *, elsewhere_s: float = 0.0
) -> Iterator[Forecast]:
    """One for each job of `queue`, in its order: those before a job are what it waits for.

    `elsewhere_s` are seconds of work that wait in other gateways; all boards share them.
    """
    shared_s = elsewhere_s / max(1, len(boards))
    free = {b.worker_id: shared_s + left_s(b) for b in boards}
    loaded: dict[_Kind, dict[str, float]] = {}
    for ticket in queue:
        kind = (ticket.model, ticket.num_ctx)
        if kind not in loaded:
            loaded[kind] = {
                b.worker_id: ready_s(ticket, b) for b in boards if not refusal(ticket, b)
            }
        load = loaded[kind]
        able = [board for board in boards if board.worker_id in load]
        if not able:
            yield NEVER
            continue
        first_token_s, best = min(
            ((free[b.worker_id] + load[b.worker_id] + unread_s(ticket, b), b) for b in able),
            key=lambda row: row[0],
        )
        speed = speed_of(best, ticket.model)
        tokens = answer_tokens(speed, ticket.num_predict)
        forecast = Forecast(
            begins_s=free[best.worker_id],
            first_token_s=first_token_s,
            ends_s=first_token_s + decode_s(speed, ticket.weights_bytes, tokens),
        )
        free[best.worker_id] = forecast.ends_s
        load[best.worker_id] = 0.0
        yield forecast
