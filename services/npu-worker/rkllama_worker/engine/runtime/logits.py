"""What the logits of one place say: how likely tokens are, and which one to take.

Sampling follows llama.cpp's chain, stage by stage: penalties, top-k, typical, top-p, min-p, temperature,
draw (llama-sampler.cpp). It is for runtimes that have no sampler of their own for constrained runs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rkllama_protocol.messages import Sampling

from rkllama_worker.engine.runtime.base import Likely, Logprobs

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.intp]


def logprobs(logits: Floats, chosen: int, top: int) -> Logprobs:
    """Log-softmax of raw logits, float32 [vocabulary]: of `chosen`, and of the `top` likeliest."""
    highest = logits.max()
    total = highest + np.log(np.exp(logits - highest, dtype=np.float64).sum())
    top = min(top, len(logits))
    best = np.argpartition(logits, -top)[-top:] if top else np.empty(0, dtype=np.intp)
    # Of equals the lower id comes first, so that equal runs say the same.
    best = best[np.lexsort((best, -logits[best]))]
    return Logprobs(
        Likely(chosen, float(logits[chosen] - total)),
        tuple(Likely(int(token), float(logits[token] - total)) for token in best),
    )


class Sampler:
    """Chooses the tokens of one run."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], *, context_length: int) -> None:
        """Penalties see the end of the prompt too, as in Ollama's runner."""
        last = context_length if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        self._sampling = sampling
        self._recent = deque(prompt[-last:] if last else (), maxlen=last)
        self._random = np.random.default_rng(sampling.seed & (2**64 - 1))

    def choose(self, logits: Floats, allowed: Ids | None = None) -> int:
        """One of `allowed`, ascending, or of all; `logits` is float32 [vocabulary]."""
        sampling = self._sampling
        ids = np.arange(len(logits)) if allowed is None else allowed[allowed < len(logits)]
        values = self._penalised(logits[ids].astype(np.float64), ids)
        if sampling.temperature <= 0:
            return self._take(int(ids[values.argmax()]))
        order = np.argsort(-values, kind="stable")
        if 0 < sampling.top_k < len(order):
            order = order[: sampling.top_k]
        ids, values = ids[order], values[order]
        for keep in (self._typical, self._top_p, self._min_p):
            kept = keep(_softmax(values))
            ids, values = ids[kept], values[kept]
        chances = _softmax(values / sampling.temperature)
        return self._take(int(self._random.choice(ids, p=chances)))

    def accept(self, token: int) -> None:
        """A token that was not chosen here."""
        self._take(token)

    def _take(self, token: int) -> int:
        self._recent.append(token)
        return token

    def _penalised(self, values: Floats, ids: Ids) -> Floats:
        """llama.cpp's rule: a repeated token's logit moves down, whatever its sign."""
        sampling = self._sampling
        for token, count in Counter(self._recent).items():
            at = int(np.searchsorted(ids, token))
            if at == len(ids) or ids[at] != token:
                continue
            penalty = sampling.repeat_penalty
            values[at] *= penalty if values[at] <= 0 else 1 / penalty
            values[at] -= count * sampling.frequency_penalty + sampling.presence_penalty
        return values

    def _typical(self, chances: Floats) -> Ids:
        """Those whose surprise is nearest to the expected one, until they have `typical_p` together."""
        if self._sampling.typical_p >= 1:
            return np.arange(len(chances))
        surprises = -np.log(np.maximum(chances, np.finfo(np.float64).tiny))
        expected = (chances * surprises).sum()
        order = np.argsort(np.abs(surprises - expected), kind="stable")
        count = int(np.searchsorted(np.cumsum(chances[order]), self._sampling.typical_p)) + 1
        return np.sort(order[:count])

    def _top_p(self, chances: Floats) -> Ids:
        if self._sampling.top_p >= 1:
            return np.arange(len(chances))
        count = int(np.searchsorted(np.cumsum(chances), self._sampling.top_p)) + 1
        return np.arange(min(count, len(chances)))

    def _min_p(self, chances: Floats) -> Ids:
        kept: Ids = np.flatnonzero(chances >= self._sampling.min_p * chances.max())
        return kept


def _softmax(values: Floats) -> Floats:
    weights = np.exp(values - values.max())
    chances: Floats = weights / weights.sum()
    return chances
