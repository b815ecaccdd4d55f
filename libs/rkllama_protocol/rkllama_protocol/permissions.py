"""What each role may say and hear on the bus: ADR 0002, held by the broker.

    gateway     says     offers.>  taken  worker.*.<verb>  store.<verb>  beats.gateway.*
                hears    gateway.*.*.<verb>  reply.>  beats.*.*  events.>  progress.*
    worker W    says     gateway.*.W.<verb>  reply.*.W.>  beats.worker.W
                hears    offers.>  taken  worker.W.<verb>  beats.worker.*  beats.store.*
    store S     says     progress.*  events.>  beats.store.S
                hears    store.<verb>

Everybody hears the inbox of their own user, and may answer a request they were asked, once
(`allow_responses` of nats-server). A gateway's id is new at every start, so that gateways are
not held apart from each other; neither are workers whose id is `*`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rkllama_protocol.names import token
from rkllama_protocol.subjects import (
    ANY,
    GatewayVerb,
    JobClass,
    ModelEvent,
    Role,
    StoreVerb,
    Subjects,
    WorkerVerb,
)

RESPONSES = 1
"""Answers to one request."""
RESPONSE_S = 60
"""How long after the request they may come; more than any request waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Allow lists of subjects; what is not on them is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(user: str) -> str:
    """Of the subjects that this user's requests are answered on."""
    return f"_INBOX.{token(user)}"


def permissions(
    role: Role, process_id: str, *, user: str, subjects: Subjects | None = None
) -> Permissions:
    """What the broker lets `user` do, who speaks as `process_id`; `ANY` for any of its role."""
    s = subjects or Subjects()
    inbox = f"{inbox_prefix(user)}.>"
    match role:
        case "gateway":
            return Permissions(
                publish=(
                    *(s.offers_of(job_class) for job_class in JobClass),
                    s.taken,
                    *(s.worker(ANY, verb) for verb in WorkerVerb),
                    *(s.store(verb) for verb in StoreVerb),
                    s.beat("gateway", ANY),
                ),
                subscribe=(
                    inbox,
                    *(s.gateway(ANY, ANY, verb) for verb in GatewayVerb),
                    s.replies(ANY),
                    *(s.beats(other) for other in ("gateway", "worker", "store")),
                    s.events,
                    s.progress(ANY),
                ),
            )
        case "worker":
            return Permissions(
                publish=(
                    *(s.gateway(ANY, process_id, verb) for verb in GatewayVerb),
                    s.replies(ANY, process_id),
                    s.beat("worker", process_id),
                ),
                subscribe=(
                    inbox,
                    s.offers,
                    s.taken,
                    *(s.worker(process_id, verb) for verb in WorkerVerb),
                    s.beats("worker"),
                    s.beats("store"),
                ),
            )
        case "store":
            return Permissions(
                publish=(
                    s.progress(ANY),
                    *(s.event(event) for event in ModelEvent),
                    s.beat("store", process_id),
                ),
                subscribe=(inbox, *(s.store(verb) for verb in StoreVerb)),
            )
