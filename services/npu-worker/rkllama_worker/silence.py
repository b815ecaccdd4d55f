"""How long an engine may say nothing before it is held to hang; pure.

load ---- first_s ----> chunk -- next_s --> chunk -- next_s --> chunk
          the prompt is read    where it may be read again, as long
"""

from __future__ import annotations

from dataclasses import dataclass

from rkllama_policy.cost import prefill_s
from rkllama_protocol.messages import Job, Speed, Ticket

SLOW_PREFILL = 5.0
"""Times the predicted seconds that a prompt may take."""
CPU_PREFILL = 20.0
"""What to multiply a guess with that was made of an NPU: of SmolLM2, 98 MB, a processor reads a token in
3 to 13 ms, by its cores and by what else they do; the guess is 0.4 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How long an engine may say nothing, in seconds."""

    first_s: float
    """Before its first chunk: it reads the prompt."""
    next_s: float
    """Between two chunks."""


def predicted_prefill_s(ticket: Ticket, speed: Speed) -> float:
    """Seconds that this board needs for the whole prompt: that some of it is held is only predicted."""
    predicted = prefill_s(speed, ticket.weights_bytes, ticket.prompt_tokens)
    if speed.prefill_s_per_token is None and ticket.model_format == "gguf":
        return CPU_PREFILL * predicted
    return predicted


def allowed_silence(job: Job, ticket: Ticket, speed: Speed, *, stall_s: float) -> Silence:
    """What a run of the job may take; `stall_s` is for an engine that has nothing to read."""
    reading_s = stall_s + SLOW_PREFILL * predicted_prefill_s(ticket, speed)
    # An embedding reads its next text between two chunks; what has to be in a format may be asked again.
    reads_again = job.kind == "embed" or job.format is not None or bool(job.forced_tools)
    return Silence(first_s=reading_s, next_s=reading_s if reads_again else stall_s)
