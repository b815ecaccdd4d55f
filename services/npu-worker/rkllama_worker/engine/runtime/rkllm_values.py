"""Values on their way to the vendor's library and back: what it can be trusted with, and believed."""

from __future__ import annotations

from math import inf

from rkllama_protocol.messages import Sampling
from rkllm_bindings import Perf
from rkllm_bindings import Sampling as VendorSampling

UNLIMITED_TOP_K = 1000
"""For Ollama's 0, which no release documents."""


def believable(perf: Perf | None, prompt_tokens: int) -> Perf | None:
    """The library's measurements, if it made any: builds of others may not fill them in."""
    return perf if perf is not None and 0 < perf.prefill_tokens <= prompt_tokens else None


def nanoseconds(time_ms: float) -> int | None:
    """A time that the library measured, or None if it did not."""
    return round(time_ms * 1e6) if 0 < time_ms < inf else None


def vendor_sampling(sampling: Sampling) -> VendorSampling:
    """All values set explicitly, as the vendor asks for repeatable results (rknn-llm#443)."""
    greedy = sampling.temperature <= 0
    return VendorSampling(
        top_k=1 if greedy else sampling.top_k if sampling.top_k > 0 else UNLIMITED_TOP_K,
        top_p=sampling.top_p,
        temperature=max(0.0, sampling.temperature),
        repeat_penalty=sampling.repeat_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
    )
