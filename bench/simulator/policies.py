"""Who gets a job: by our rule, or by one of those it is compared with.

    ours                boards claim when their patience ends (`rkllama_policy.claims`)
    round robin         each board in turn, as an HTTP balancer does
    random              any board, as a queue group does
    least outstanding   the board with the fewest jobs, as most gateways do

All but ours bind a job to a board when it comes: there it waits in line, whatever other boards do.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from rkllama_policy.claims import Offer, choose
from rkllama_policy.cost import left_s, startup_s
from rkllama_protocol.messages import Ticket, WorkerBeat

from bench.simulator.board import Board

AFTER_S = 1e-6
"""Later than the moment itself: a sum of floating-point seconds may fall short of it."""


class Policy(Protocol):
    """Deals jobs out to boards."""

    def accept(self, ticket: Ticket, now: float) -> None:
        """A job has come."""

    def next_start(self, now: float) -> tuple[Board, Ticket] | float:
        """What a free board starts now; or, if nothing is, when to ask again without news (or infinity)."""


class Claims:
    """Ours."""

    def __init__(self, boards: Sequence[Board], _: random.Random) -> None:
        self._boards = boards
        self._offers: dict[str, tuple[Ticket, float]] = {}
        self._known: dict[tuple[str, str], tuple[int, float]] = {}

    def accept(self, ticket: Ticket, now: float) -> None:
        self._offers[ticket.job_id] = (ticket, now)

    def next_start(self, now: float) -> tuple[Board, Ticket] | float:
        if not self._offers:
            return float("inf")
        offers = [Offer(ticket=ticket, age_s=now - at) for ticket, at in self._offers.values()]
        beats = {board.name: board.beat(now) for board in self._boards}
        versions = {board.name: board.version for board in self._boards}

        def cost(ticket: Ticket, beat: WorkerBeat) -> float:
            key, version = (ticket.job_id, beat.worker_id), versions[beat.worker_id]
            known = self._known.get(key)
            if known is None or known[0] != version:
                known = self._known[key] = (version, startup_s(ticket, beat))
            return known[1] + left_s(beat)

        wait_s = float("inf")
        for board in self._boards:
            if not board.free:
                continue
            me = beats[board.name]
            others = [beat for name, beat in beats.items() if name != board.name]
            choice = choose(offers, me, others, cost=cost)
            if choice.ticket is not None:
                del self._offers[choice.ticket.job_id]
                return board, choice.ticket
            wait_s = min(wait_s, choice.wait_s)
        return now + wait_s + AFTER_S


class _Bound(ABC):
    """A line of jobs before each board."""

    def __init__(self, boards: Sequence[Board], dice: random.Random) -> None:
        self.boards = boards
        self.dice = dice
        self.lines: list[deque[Ticket]] = [deque() for _ in boards]

    def accept(self, ticket: Ticket, now: float) -> None:
        self.lines[self.pick()].append(ticket)

    def next_start(self, now: float) -> tuple[Board, Ticket] | float:
        for board, line in zip(self.boards, self.lines, strict=True):
            if board.free and line:
                return board, line.popleft()
        return float("inf")

    @abstractmethod
    def pick(self) -> int:
        """The number of the board that gets the next job."""


class RoundRobin(_Bound):
    """Each in turn."""

    _next = -1

    def pick(self) -> int:
        self._next = (self._next + 1) % len(self.boards)
        return self._next


class QueueGroup(_Bound):
    """Any."""

    def pick(self) -> int:
        return self.dice.randrange(len(self.boards))


class LeastOutstanding(_Bound):
    """The one with the fewest jobs, running or in line; any of several."""

    def pick(self) -> int:
        outstanding = [
            len(line) + (not board.free)
            for board, line in zip(self.boards, self.lines, strict=True)
        ]
        least = min(outstanding)
        return self.dice.choice([at for at, jobs in enumerate(outstanding) if jobs == least])


Make = Callable[[Sequence[Board], random.Random], Policy]

POLICIES: dict[str, Make] = {
    "ours": Claims,
    "round robin": RoundRobin,
    "random": QueueGroup,
    "least outstanding": LeastOutstanding,
}
