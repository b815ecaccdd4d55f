"""Plays conversations against boards, in virtual time: no processes, no sockets, no clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from rkllama_policy.learning import Measured
from rkllama_protocol.messages import Link, Ticket
from rkllama_protocol.subjects import JobClass

from bench.simulator.board import FORMAT, Board, Equipment, speeds_of
from bench.simulator.policies import Make
from bench.simulator.speeds import decode_s, prefill_s
from bench.simulator.traffic import MODELS, Conversation, Model, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request. Seconds."""

    conversation: Conversation
    turn: Turn
    asked_s: float
    """When it came."""
    waited_s: float
    """Until a board took it."""
    ttft_s: float

    @property
    def alone_s(self) -> float:
        """To the first token of nothing but the new tokens, on a board that waits for it."""
        return prefill_s(self.conversation.model.speeds, self.turn.question)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of all of them."""

    served: tuple[Served, ...]
    loads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    conversation: Conversation
    at: int
    """Which turn."""
    since: float


def ticket_of(conversation: Conversation, at: int, order: int, *, bounded: bool = False) -> Ticket:
    """The offer of one turn, which says how long its answer is going to be if it is `bounded`.

    Each earlier turn's answer is held with its question."""
    turns, model = conversation.turns, conversation.model
    links = [
        Link(hash=f"{conversation.name}.{n}", tokens=one.prompt + one.answer)
        for n, one in enumerate(turns[:at])
    ]
    links.append(Link(hash=f"{conversation.name}.{at}", tokens=turns[at].prompt))
    return Ticket(
        job_id=f"{conversation.name}-{at}",
        attempt=1,
        job_class=JobClass.INTERACTIVE,
        model=model.digest,
        model_format=FORMAT,
        weights_bytes=model.weights_bytes,
        age_s=0.0,
        order=order,
        prompt_tokens=turns[at].prompt,
        chain=tuple(links),
        num_predict=turns[at].answer if bounded else -1,
        gateway_id="g",
    )


def play(
    conversations: Sequence[Conversation],
    make: Make,
    *,
    boards: int,
    equipment: Equipment,
    seed: int = 0,
    models: Sequence[Model] = MODELS,
    bounded: bool = False,
) -> Outcome:
    """Let every conversation run to its end: the next question comes a pause after the last answer.

    Boards know the `models`, and of a `bounded` question how long its answer is going to be.
    """
    speeds = speeds_of(models, restore_s=equipment.restore_s)
    cluster = [
        Board(name=f"b{at:03d}", equipment=equipment, speeds=dict(speeds)) for at in range(boards)
    ]
    policy = make(cluster, random.Random(seed))
    orders = count()
    numbers = count()
    events: list[tuple[float, int, Literal["ask", "end", "look"], object]] = []
    asked: dict[str, _Asked] = {}
    served: list[Served] = []

    def push(at: float, kind: Literal["ask", "end", "look"], what: object) -> None:
        heapq.heappush(events, (at, next(numbers), kind, what))

    for conversation in conversations:
        if conversation.turns:
            push(conversation.begins_s, "ask", (conversation, 0))
    look_at = float("inf")
    while events:
        now, _, kind, what = heapq.heappop(events)
        match kind, what:
            case "ask", (Conversation() as conversation, int() as at):
                ticket = ticket_of(conversation, at, next(orders), bounded=bounded)
                asked[ticket.job_id] = _Asked(conversation=conversation, at=at, since=now)
                policy.accept(ticket, now)
            case "end", (Board() as board, Measured() as run):
                board.end(now, run)
            case "look", _:
                if now < look_at:
                    continue
                look_at = float("inf")
        while not isinstance(start := policy.next_start(now), float):
            board, ticket = start
            one = asked.pop(ticket.job_id)
            turn = one.conversation.turns[one.at]
            first_s = board.start(ticket, now)
            decoded_s = decode_s(one.conversation.model.speeds, turn.answer)
            ends = now + first_s + decoded_s
            served.append(
                Served(
                    conversation=one.conversation,
                    turn=turn,
                    asked_s=one.since,
                    waited_s=now - one.since,
                    ttft_s=now - one.since + first_s,
                )
            )
            run = Measured(generated_tokens=turn.answer, decode_s=decoded_s)
            push(ends, "end", (board, run))
            if one.at + 1 < len(one.conversation.turns):
                pause_s = one.conversation.turns[one.at + 1].pause_s
                push(ends + pause_s, "ask", (one.conversation, one.at + 1))
        if start < look_at:
            look_at = start
            push(start, "look", None)
    return Outcome(served=tuple(served), loads=sum(board.loads for board in cluster))
