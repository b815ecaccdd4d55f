"""What a board learns of each model: seconds to load, to prefill, to decode and to restore, answer lengths."""

from __future__ import annotations

from dataclasses import dataclass

from rkllama_protocol.messages import Speed

WEIGHT = 0.3
"""Of the newest figure in the moving average."""
MIN_PREFILL_TOKENS = 8
"""Fewer say more of the overhead than of the speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run took; None and 0 where there was nothing to measure. Seconds, and tokens."""

    load_s: float | None = None
    restore_s: float | None = None
    computed_tokens: int = 0
    """Of the prompt, those that were not reused."""
    prefill_s: float = 0.0
    generated_tokens: int = 0
    """Of an answer that came to its own end."""
    decode_s: float = 0.0


def blend(old: float | None, new: float) -> float:
    """A moving average after one more figure."""
    return new if old is None else (1 - WEIGHT) * old + WEIGHT * new


def learned(speed: Speed, run: Measured) -> Speed:
    """`speed` after one more run; what was not measured stays as it was."""
    changes: dict[str, float] = {}
    if run.load_s is not None:
        changes["load_s"] = blend(speed.load_s, run.load_s)
    if run.restore_s is not None:
        changes["restore_s"] = blend(speed.restore_s, run.restore_s)
    if run.computed_tokens >= MIN_PREFILL_TOKENS:
        changes["prefill_s_per_token"] = blend(
            speed.prefill_s_per_token, run.prefill_s / run.computed_tokens
        )
    if run.generated_tokens:
        changes["decode_s_per_token"] = blend(
            speed.decode_s_per_token, run.decode_s / run.generated_tokens
        )
        changes["tokens_per_answer"] = blend(speed.tokens_per_answer, float(run.generated_tokens))
    return speed.model_copy(update=changes)
