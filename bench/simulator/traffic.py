"""Who asks what, when: models with the vendor's speeds, and conversations of several turns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from bench.simulator.speeds import Speeds, decode_s, load_s, prefill_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model on an RK3588."""

    name: str
    digest: str
    weights_bytes: int
    speeds: Speeds
    share: float
    """Of the conversations."""


def _model(
    letter: str, name: str, *, memory_mb: float, ttft_ms: float, tokens_per_s: float, share: float
) -> Model:
    """From a row of the vendor's table: RK3588, w8a8, runtime 1.2.1, prompts of 128 tokens."""
    weights_bytes = round(memory_mb * 1e6)
    speeds = Speeds(
        load_s=load_s(weights_bytes),
        prefill_s_per_token=ttft_ms / 1e3 / 128,
        decode_s_per_token=1 / tokens_per_s,
    )
    digest = f"sha256:{letter * 64}"
    return Model(name=name, digest=digest, weights_bytes=weights_bytes, speeds=speeds, share=share)


MODELS = (
    _model("a", "Qwen2.5-1.5B", memory_mb=1659, ttft_ms=412, tokens_per_s=16.32, share=0.5),
    _model("b", "Gemma2-2B", memory_mb=2764, ttft_ms=694, tokens_per_s=9.65, share=0.3),
    _model("c", "Phi3-3.8B", memory_mb=3748, ttft_ms=1050, tokens_per_s=7.49, share=0.2),
)

MOST_TOKENS = 2000
"""Of a conversation."""
MEAN_QUESTION, MEAN_ANSWER = 60, 120
"""Tokens."""
MEAN_PAUSE_S = 30.0
"""Between an answer and the next question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question. Tokens, and seconds since the end of the answer before it."""

    history: int
    question: int
    answer: int
    pause_s: float

    @property
    def prompt(self) -> int:
        """Everything that is before the answer."""
        return self.history + self.question


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Turns, one after the other."""

    name: str
    model: Model
    begins_s: float
    turns: tuple[Turn, ...]


def _turns(dice: random.Random) -> Iterator[Turn]:
    history = 0
    for _ in range(dice.randint(3, 12)):
        question = 10 + round(dice.expovariate(1 / (MEAN_QUESTION - 10)))
        answer = 20 + round(dice.expovariate(1 / (MEAN_ANSWER - 20)))
        if history + question + answer > MOST_TOKENS:
            return
        pause_s = dice.expovariate(1 / MEAN_PAUSE_S)
        yield Turn(history=history, question=question, answer=answer, pause_s=pause_s)
        history += question + answer


def work_s(model: Model, turn: Turn) -> float:
    """Seconds that a turn takes a board at the very least: its new tokens, and its answer."""
    return prefill_s(model.speeds, turn.question) + decode_s(model.speeds, turn.answer)


def conversations(*, boards: int, load: float, count: int, seed: int) -> list[Conversation]:
    """`count` conversations that begin at random times, so that `boards` are busy for `load` of it."""
    dice = random.Random(seed)
    models = dice.choices(MODELS, [model.share for model in MODELS], k=count)
    talks = [(model, tuple(_turns(dice))) for model in models]
    total_s = sum(work_s(model, turn) for model, turns in talks for turn in turns)
    mean_s = total_s / count / boards / load
    begins = accumulate(dice.expovariate(1 / mean_s) for _ in talks)
    return [
        Conversation(name=f"c{at}", model=model, begins_s=begin, turns=turns)
        for at, (begin, (model, turns)) in enumerate(zip(begins, talks, strict=True))
    ]
