"""The vendor's figures, and which of them a model is compared with."""

from __future__ import annotations

import pytest
from rkllama_board import Soc, vendor_figure
from rkllama_board.soc import FACTS
from rkllama_board.vendor_speed import figures


def test_every_row_is_of_a_weight_type_that_its_soc_runs() -> None:
    rows = figures()

    assert len(rows) == 154
    assert {row.soc for row in rows} == set(Soc)
    for row in rows:
        assert row.dtype in FACTS[row.soc].quantisations
        assert 0.05 < row.ttft_s < 10
        assert 1 < row.tokens_per_s < 50


def test_a_row_is_the_vendors() -> None:
    """Runtime 1.3.0, RK3588, Qwen2.5 1.5B w8a8: 378.31 ms, 16.69 tokens/s, 1689.21 MB."""
    row = vendor_figure(Soc.RK3588, "Qwen2.5-1.5B-Instruct", "W8A8")

    assert row is not None
    assert (row.runtime, row.model, row.exact) == ("1.3.0", "Qwen2.5 1.5B", True)
    assert (row.ttft_s, row.tokens_per_s, row.memory_mb) == (0.37831, 16.69, 1689.21)
    assert row.prefill_tokens_per_s == pytest.approx(338.3, abs=0.1)


def test_the_table_of_another_runtime_can_be_preferred() -> None:
    row = vendor_figure(Soc.RK3588, "qwen3:0.6b", "w8a8", runtime="1.2.3")

    assert row is not None
    assert (row.runtime, row.tokens_per_s) == ("1.2.3", 32.16)


@pytest.mark.parametrize(
    ("name", "model", "exact"),
    [
        ("qwen3:0.6b", "Qwen3 0.6B", True),
        ("Qwen3.5-4B-rk3588-w8a8-opt-1", "Qwen3.5 4B", True),
        ("Qwen3-VL-2B-Instruct", "Qwen3-VL 2B", True),
        ("gemma-3n-2b", "Gemma3n 2B", True),
        ("gemma4:e2b", "Gemma4 E2B", True),
        ("TinyLlama", "TinyLLAMA 1.1B", True),
        ("DeepSeek-OCR", "DeepSeekOCR 3B(A570M)", True),
        ("DeepSeek-R1-Distill-Qwen-1.5B", "Qwen2.5 1.5B", False),
        ("Qwen3-1.7B", "InternLM2 1.8B", False),
        (600_000_000, "Qwen3 0.6B", False),
    ],
)
def test_a_model_is_found_by_family_and_size_or_by_size_alone(
    name: str | int, model: str, *, exact: bool
) -> None:
    row = vendor_figure(Soc.RK3588, name, "w8a8")

    assert row is not None
    assert (row.model, row.exact) == (model, exact)


@pytest.mark.parametrize("name", ["llama3:70b", "qwen3.5", "mystery", "gemma4:e4b", 70_000_000_000])
def test_what_the_vendor_did_not_measure_has_no_figure(name: str | int) -> None:
    assert vendor_figure(Soc.RK3588, name, "w8a8") is None


def test_another_weight_type_has_no_figure() -> None:
    """Grouped types cost up to half of the speed; plain figures say nothing of them."""
    assert vendor_figure(Soc.RK3588, "qwen3:0.6b", "w8a8_g128") is None
