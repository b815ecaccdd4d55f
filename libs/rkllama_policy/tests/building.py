"""Tickets and beats for tests, with everything that a test does not care about."""

from __future__ import annotations

from rkllama_protocol.messages import (
    GatewayBeat,
    ModelDetails,
    QueuedModel,
    ResidentModel,
    Speed,
    Ticket,
    WorkerBeat,
)
from rkllama_protocol.subjects import JobClass

A, B = (f"sha256:{letter * 64}" for letter in "ab")


def ticket(job_id: str = "j", model: str = A, **changes: object) -> Ticket:
    values = {
        "job_id": job_id,
        "attempt": 1,
        "job_class": JobClass.INTERACTIVE,
        "model": model,
        "model_format": "gguf",
        "weights_bytes": 1_000_000_000,
        "age_s": 0.0,
        "order": 0,
        "prompt_tokens": 100,
        "gateway_id": "g",
    }
    return Ticket.model_validate(values | changes)


def resident(digest: str = A, **changes: object) -> ResidentModel:
    values = {
        "digest": digest,
        "name": "m",
        "full_name": "m",
        "details": ModelDetails(),
        "size": 100,
        "size_vram": 0,
        "context_length": 4096,
        "state": "ready",
        "expires_in_s": 60.0,
    }
    return ResidentModel.model_validate(values | changes)


def board(worker_id: str = "w", **changes: object) -> WorkerBeat:
    """Loads `A` in 2 s, reads 100 tokens of it a second, and makes 10, for answers of 100.

    What it saved it restores in a tenth of a second.
    """
    values = {
        "worker_id": worker_id,
        "ready": True,
        "runtimes": ("gguf",),
        "memory_bytes": 8 * 2**30,
        "speeds": (
            Speed(
                model=A,
                load_s=2.0,
                prefill_s_per_token=0.01,
                decode_s_per_token=0.1,
                tokens_per_answer=100,
                restore_s=0.1,
            ),
        ),
    }
    return WorkerBeat.model_validate(values | changes)


def gateway(gateway_id: str, *queues: tuple[JobClass, int, float]) -> GatewayBeat:
    """A gateway in which so many jobs of `A` wait, of so many seconds of work."""
    rows = tuple(
        QueuedModel(model=A, name="m", job_class=lane, waiting=waiting, work_s=work_s, wait_s=None)
        for lane, waiting, work_s in queues
    )
    return GatewayBeat(gateway_id=gateway_id, ready=True, waiting=0, running=0, queues=rows)
