"""The enums of rkllm.h. They are C `int`s at the border; values are the same in every family."""

from __future__ import annotations

from enum import IntEnum


class LLMCallState(IntEnum):
    """What a callback reports. Every header has these; the manuals up to 1.2.0 swap 1 and 2."""

    RKLLM_RUN_NORMAL = 0
    RKLLM_RUN_WAITING = 1
    RKLLM_RUN_FINISH = 2
    RKLLM_RUN_ERROR = 3
    RKLLM_RUN_GET_LAST_HIDDEN_LAYER = 4
    """abi-1.1 only: hidden states; later families deliver them as NORMAL."""


class RKLLMInputType(IntEnum):
    """Which member of RKLLMInput's union is set."""

    RKLLM_INPUT_PROMPT = 0
    RKLLM_INPUT_TOKEN = 1
    RKLLM_INPUT_EMBED = 2
    RKLLM_INPUT_MULTIMODAL = 3


class RKLLMInferMode(IntEnum):
    """What a run computes."""

    RKLLM_INFER_GENERATE = 0
    RKLLM_INFER_GET_LAST_HIDDEN_LAYER = 1
    RKLLM_INFER_GET_LOGITS = 2
    """Not in abi-1.1."""
