"""Generation driven from outside: the runtime says how likely tokens are, and we choose.

ids --logits--> row --constraint, sampler--> token --+
 ^---------------------------------------------------+     the whole list each time: the runtime
                                                           reuses the prefix it has computed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rkllama_worker.engine.runtime.base import (
    Constraint,
    Emit,
    GenerateRequest,
    Logprobs,
    RuntimeFinish,
)
from rkllama_worker.engine.runtime.logits import Floats, Sampler, logprobs

LogitsOf = Callable[[Sequence[int]], Floats | None]
"""The row behind these ids, float32 [vocabulary]; None if the run was aborted."""


def step_by_step(
    prompt: Sequence[int],
    request: GenerateRequest,
    emit: Emit,
    *,
    logits_of: LogitsOf,
    sampler: Sampler,
) -> RuntimeFinish:
    """Generate as the request says; see `Runtime.generate`."""
    ids, constraint = list(prompt), request.constraint
    left = request.max_tokens
    while (row := logits_of(ids)) is not None:
        token = sampler.choose(row, None if constraint is None else constraint.allowed())
        told: tuple[Logprobs, ...] = ()
        if request.top_logprobs is not None:
            told = (logprobs(row, token, request.top_logprobs),)
        chosen = [token]
        if constraint is not None:
            constraint.accept(token)
            if not told:
                chosen += _forced(constraint, sampler, left - 1)
        for one in chosen:
            if not emit((one,), told):
                return "aborted"
        left -= len(chosen)
        if constraint is not None and constraint.complete:
            return "stop"
        if not left:
            return "length"
        ids += chosen
    return "aborted"


def _forced(constraint: Constraint, sampler: Sampler, most: int) -> list[int]:
    """Tokens that have to follow, taken: each saves a step."""
    forced = constraint.forced()[:most]
    for token in forced:
        constraint.accept(token)
        sampler.accept(token)
    return forced
