"""What this board learns of each model: seconds to load, to prefill, to decode and to restore, answer lengths."""

from __future__ import annotations

from rkllama_protocol.messages import Speed

from rkllama_worker.engine.wire import RunEnded

WEIGHT = 0.3
"""Of the newest figure in the moving average."""
MIN_PREFILL_TOKENS = 8
"""Fewer say more of the overhead than of the speed."""


def blend(old: float | None, new: float) -> float:
    """A moving average after one more figure."""
    return new if old is None else (1 - WEIGHT) * old + WEIGHT * new


def learned(speed: Speed, *, load_s: float | None, ended: RunEnded | None) -> Speed:
    """`speed` after one more load and run; what was not measured stays as it was."""
    changes: dict[str, float] = {}
    if load_s is not None:
        changes["load_s"] = blend(speed.load_s, load_s)
    if ended is not None:
        if ended.restored:
            changes["restore_s"] = blend(speed.restore_s, ended.restore_ns / 1e9)
        computed = ended.prompt_tokens - ended.reused_tokens
        if computed >= MIN_PREFILL_TOKENS:
            changes["prefill_s_per_token"] = blend(
                speed.prefill_s_per_token, ended.prefill_ns / 1e9 / computed
            )
        if ended.generated_tokens and not ended.aborted:
            changes["decode_s_per_token"] = blend(
                speed.decode_s_per_token, ended.decode_ns / 1e9 / ended.generated_tokens
            )
            changes["tokens_per_answer"] = blend(
                speed.tokens_per_answer, float(ended.generated_tokens)
            )
    return speed.model_copy(update=changes)
