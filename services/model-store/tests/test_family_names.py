"""Short names, as a table."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.names import ModelName
from rkllama_store.family_names import (
    NUMBERS,
    candidates,
    choose,
    hybrid_ratio,
    optimisation,
    parameter_size,
    quantisation,
)

FULL = "Qwen2.5-3B-Instruct-rk3588-w8a8-opt-1-hybrid-ratio-0.5.rkllm"


@pytest.mark.parametrize(
    ("file_name", "short"),
    [
        (FULL, "qwen2.5:3b"),
        (
            "Qwen2.5-Coder-1.5B-Instruct-rk3588-w8a8-opt-0-hybrid-ratio-1.0.rkllm",
            "qwen2.5-coder:1.5b",
        ),
        ("Qwen3-0.6B-rk3576-w4a16_g128.rkllm", "qwen3:0.6b"),
        ("Qwen3-4B-Instruct-2507-rk3588.rkllm", "qwen3:4b"),
        ("Qwen3-30B-A3B.rkllm", "qwen3:30b"),
        ("Qwen3-Embedding-0.6B_W8A8_RK3588.rkllm", "qwen3-embedding:0.6b"),
        ("Qwen2-VL-2B-Instruct.rkllm", "qwen2-vl:2b"),
        ("DeepSeek-R1-Distill-Qwen-1.5B_W8A8_RK3588.rkllm", "deepseek-r1:1.5b"),
        ("Meta-Llama-3.1-8B-Instruct-rk3588-w8a8.rkllm", "llama3.1:8b"),
        ("Llama-3.2-1B-Instruct-rk3588.rkllm", "llama3.2:1b"),
        ("llama3-8b.rkllm", "llama3:8b"),
        ("gemma-2-2b-it-rk3588-w8a8.rkllm", "gemma2:2b"),
        ("gemma-3n-E2B-it.rkllm", "gemma3n:e2b"),
        ("Phi-3-mini-4k-instruct-rk3588-w8a8.rkllm", "phi3:mini"),
        ("Phi-3.5-mini-instruct.rkllm", "phi3.5:mini"),
        ("chatglm3-6b-rk3588.rkllm", "chatglm3:6b"),
        ("internlm2-chat-1_8b-rk3588-w8a8.rkllm", "internlm2:1.8b"),
        ("Mistral-7B-Instruct-v0.3.rkllm", "mistral:7b"),
        ("Mixtral-8x7B.rkllm", "mixtral:8x7b"),
        ("TinyLlama-1.1B-Chat-v1.0-rk3588-w8a8-opt-1.rkllm", "tinyllama:1.1b"),
        ("SmolLM2-360M-Instruct.rkllm", "smollm2:360m"),
        ("rk3588-w8a8-qwen2.5-7b.RKLLM", "qwen2.5:7b"),
        ("folder/rk3588/Qwen2.5-3B.rkllm", "qwen2.5:3b"),
    ],
)
def test_the_family_and_the_size_are_the_name(file_name: str, short: str) -> None:
    assert next(candidates(file_name)) == ModelName.parse(short)


@pytest.mark.parametrize(
    "file_name",
    [
        "model.rkllm",
        "7B.rkllm",
        "rk3588-3B.rkllm",
        "Qwen2.5-Instruct.rkllm",
        "Qwen2.5-3B-Q4_K_M.gguf",
        "Qwen2.5-3B",
        "Модель-3B.rkllm",
        "a" * 90 + "-3B.rkllm",
        ".rkllm",
        "",
    ],
)
def test_what_says_too_little_has_no_short_name(file_name: str) -> None:
    assert list(candidates(file_name)) == []


def test_a_name_that_is_taken_grows_in_the_documented_order() -> None:
    assert [name.display for name in islice(candidates(FULL), 6)] == [
        "qwen2.5:3b",
        "qwen2.5:3b-w8a8",
        "qwen2.5:3b-w8a8-opt1",
        "qwen2.5:3b-w8a8-opt1-hybrid0.5",
        "qwen2.5:3b-w8a8-opt1-hybrid0.5-2",
        "qwen2.5:3b-w8a8-opt1-hybrid0.5-3",
    ]


def test_what_the_file_does_not_say_is_left_out() -> None:
    assert [name.tag for name in islice(candidates("Qwen3-4B-opt-0.rkllm"), 3)] == [
        "4b",
        "4b-opt0",
        "4b-opt0-2",
    ]


@pytest.mark.parametrize(
    ("taken", "expected"), [(0, "3b"), (1, "3b-w8a8"), (4, "3b-w8a8-opt1-hybrid0.5-2")]
)
def test_the_first_free_name_is_chosen(taken: int, expected: str) -> None:
    used = {name.key for name in islice(candidates(FULL), taken)}
    chosen = choose(FULL, is_free=lambda name: name.key not in used)

    assert chosen == ModelName.parse(f"qwen2.5:{expected}")


def test_a_hundred_of_the_same_are_enough() -> None:
    assert choose(FULL, is_free=lambda _: False) is None
    assert len(list(candidates(FULL))) == 4 + len(NUMBERS)


@pytest.mark.parametrize(
    ("file_name", "facts"),
    [
        (FULL, ("w8a8", 1, 0.5)),
        ("m_W4A16_G128.rkllm", ("w4a16_g128", None, None)),
        ("m-w8a8-g512-opt-0-hybrid-ratio-0.0.rkllm", ("w8a8_g512", 0, 0.0)),
        ("m-w4a8_g32-opt1.rkllm", ("w4a8_g32", 1, None)),
        ("adopt-1-xw8a8.rkllm", ("", None, None)),
    ],
)
def test_what_a_file_name_says(file_name: str, facts: tuple[str, int | None, float | None]) -> None:
    assert (quantisation(file_name), optimisation(file_name), hybrid_ratio(file_name)) == facts


@pytest.mark.parametrize(
    ("file_name", "size"),
    [
        (FULL, "3B"),
        ("7B.rkllm", "7B"),
        ("DeepSeek-R1-Distill-Qwen-1_5B_W8A8.rkllm", "1.5B"),
        ("Mixtral-8x7B-w8a8.rkllm", "8x7B"),
        ("SmolLM2-135M.rkllm", "135M"),
        ("Qwen3-30B-A3B.rkllm", "30B"),
        ("gemma-3n-E2B-it.rkllm", ""),
        ("phi-mini.rkllm", ""),
        ("rk3588-w8a8.rkllm", ""),
        ("model.rkllm", ""),
    ],
)
def test_the_count_of_parameters_in_a_file_name(file_name: str, size: str) -> None:
    assert parameter_size(file_name) == size


@given(st.text(max_size=200))
def test_any_text_gives_names_or_none(text: str) -> None:
    for name in islice(candidates(f"{text}.rkllm"), 8):
        assert ModelName.parse(name.full) == name
