"""What a run takes a board: one model of time, for the simulator and for the emulated boards it is held against.

|-- load --|-- restore --|-- prefill of what is not held --|-- a step for each token but the first --|
                                                           ^ first token
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rkllama_policy.cost import LOAD_BYTES_PER_S, LOAD_FLOOR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Of one model on one board. Seconds."""

    load_s: float
    prefill_s_per_token: float
    decode_s_per_token: float


def load_s(weights_bytes: int) -> float:
    """From eMMC into memory."""
    return LOAD_FLOOR_S + weights_bytes / LOAD_BYTES_PER_S


def prefill_s(speeds: Speeds, unread: int) -> float:
    """To the first token, of a model that is loaded."""
    return unread * speeds.prefill_s_per_token


def decode_s(speeds: Speeds, answer: int) -> float:
    """From the first token to the last one."""
    return (answer - 1) * speeds.decode_s_per_token


def common(prompt: Sequence[int], held: Sequence[int]) -> int:
    """How much of a prompt need not be read where `held` are in the context; its last token always is."""
    same = 0
    for one, other in zip(prompt, held, strict=False):
        if one != other:
            break
        same += 1
    return min(same, len(prompt) - 1)
