"""Whether a job went to the board that holds most of its conversation."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from rkllama_protocol.messages import Ticket, WorkerBeat

from rkllama_policy.conversation import held_tokens


class Affinity(StrEnum):
    """What became of a conversation's next job."""

    HIT = "hit"
    """It went to a board that holds as much of the prompt as any, and something."""
    FORCED = "forced"
    """Another board holds more, and was not worth waiting for."""
    MISS = "miss"
    """No board holds any of it."""


def affinity(ticket: Ticket, worker_id: str, boards: Collection[WorkerBeat]) -> Affinity:
    """How `worker_id` stood among the boards when it got the job."""
    held = {board.worker_id: _held(ticket, board) for board in boards}
    most = max(held.values(), default=0)
    if not most:
        return Affinity.MISS
    return Affinity.HIT if held.get(worker_id, 0) == most else Affinity.FORCED


def _held(ticket: Ticket, board: WorkerBeat) -> int:
    """Tokens of the prompt that the board need not read again, estimated."""
    contexts = [model.holds for model in board.models if model.digest == ticket.model]
    return max(held_tokens(ticket, hashes) for hashes in (*contexts, board.saved))
