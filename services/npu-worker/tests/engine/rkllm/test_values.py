"""Values on their way to the library and back."""

from __future__ import annotations

from math import inf, nan

import pytest
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.runtime.rkllm_values import believable, vendor_sampling
from rkllm_bindings import Perf


@pytest.mark.parametrize("temperature", [0, -1])
def test_temperature_0_takes_the_likeliest(temperature: float) -> None:
    made = vendor_sampling(Sampling(temperature=temperature, top_k=40))

    assert (made.temperature, made.top_k) == (0, 1)


@pytest.mark.parametrize(("top_k", "sent"), [(40, 40), (1, 1), (0, 1000), (-1, 1000)])
def test_no_limit_on_candidates_is_not_greedy(top_k: int, sent: int) -> None:
    assert vendor_sampling(Sampling(temperature=1, top_k=top_k)).top_k == sent


@pytest.mark.parametrize(
    ("prefill_tokens", "believed"), [(0, False), (1, True), (9, True), (10, False), (-9, False)]
)
def test_measurements_that_were_not_filled_in_are_not_believed(
    prefill_tokens: int, believed: bool
) -> None:
    perf = Perf(
        prefill_ms=nan,
        prefill_tokens=prefill_tokens,
        generate_ms=inf,
        generate_tokens=3,
        memory_mb=0,
    )

    assert (believable(perf, 9) is perf) is believed
    assert believable(None, 9) is None
