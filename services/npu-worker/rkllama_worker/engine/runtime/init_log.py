"""What the vendor's library says of a model while it loads it: the only source for some facts.

    I rkllm: rkllm-runtime version: 1.2.3, rknpu driver version: 0.9.8, platform: RK3588
    I rkllm: rkllm-toolkit version: 1.2.3, max_context_limit: 4096, npu_core_num: 3, ...

Texts as seen in logs of 1.0.2 to 1.3.1 (rkllm-abi/abi.md section 4, semantics.md section 12 and 13).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIMIT = re.compile(r"max_context_limit:\s*(\d+)")
_EXCEEDED = re.compile(r"max_context_limit\[(\d+)\]")
_TOOLKIT = re.compile(r"rkllm-toolkit version:\s*([^\s,]+)")
_RUNTIME = re.compile(r"rkllm-runtime version:\s*([^\s,]+)")
_DRIVER = re.compile(r"rknpu driver version:\s*([^\s,]+)")
_PLATFORM = re.compile(r"(?<!target_)platform:\s*([^\s,]+)")
_TARGET = re.compile(r"target_platform:\s*([^\s,]+)")
_DTYPE = re.compile(r"model_dtype:\s*([^\s,]+)")

_REASONS = (
    ("failed to open rknpu", "the NPU cannot be opened; is the rknpu driver loaded, and its node here?"),
    ("failed to open rknn device", "the NPU cannot be opened; may this user open its device node?"),
    ("target_platform does not match", "the model was converted for another SoC"),
    ("failed to malloc npu memory", "the NPU has no memory left for the model"),
    ("failed to allocate handle", "the NPU has no memory left for the model"),
    ("requires driver version", "the rknpu driver is too old for this library"),
    ("runtime version is lower than the rkllm-toolkit", "the library is older than the model's toolkit"),
    ("invalid rkllm model", "the file is no RKLLM model, or a damaged one"),
    ("invalid magic", "the file is no RKLLM model, or one of another generation"),
    ("model magic", "the file is no RKLLM model, or one of another generation"),
    ("set affinity failed", "the CPUs of the mask are not all available to this process"),
    ("enabled CPUs mask", "the CPUs of the mask are not all available to this process"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InitLog:
    """The facts in an init log; empty or None where it does not say."""

    context_limit: int | None
    """Tokens; fixed when the model was converted."""
    toolkit: str
    runtime: str
    driver: str
    platform: str
    target_platform: str
    model_dtype: str
    reason: str
    """Why it did not load, in words; empty where nothing known was printed."""


def parse(text: str) -> InitLog:
    """The facts in what was printed during `rkllm_init`."""

    def first(pattern: re.Pattern[str]) -> str:
        match = pattern.search(text)
        return match[1] if match else ""

    limit = first(_EXCEEDED) or first(_LIMIT)
    reason = next((words for needle, words in _REASONS if needle.lower() in text.lower()), "")
    return InitLog(
        context_limit=int(limit) if limit else None,
        toolkit=first(_TOOLKIT),
        runtime=first(_RUNTIME),
        driver=first(_DRIVER),
        platform=first(_PLATFORM),
        target_platform=first(_TARGET),
        model_dtype=first(_DTYPE),
        reason=reason,
    )
