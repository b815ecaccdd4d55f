"""What files say about a model: tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_protocol.errors import InvalidModelError
from rkllama_store import facts


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (134_515_008, "134.52M"),
        (1_235_814_432, "1.2B"),
        (7_000_000_000, "7B"),
        (22_000_000, "22M"),
        (33_212_160, "33.21M"),
        (1_200, "1K"),
        (7, "7"),
    ],
)
def test_parameters_are_counted_as_ollama_does(count: int, text: str) -> None:
    assert text == facts.human_count(count)


@pytest.mark.parametrize(
    ("name", "level"),
    [("MOSTLY_Q4_1", "Q4_1"), ("MOSTLY_Q4_K_M", "Q4_K_M"), ("ALL_F32", "F32"), ("GUESSED", "")],
)
def test_quantization_level(name: str, level: str) -> None:
    assert level == facts.quantization_level(name)


@pytest.mark.parametrize(
    ("template", "pooling", "found"),
    [
        ("", False, ("completion",)),
        ("{{ tools | tojson }}", False, ("completion", "tools")),
        ("<tool_call>", False, ("completion", "tools")),
        ("<think>{{ x }}</think>", False, ("completion", "thinking")),
        ("<think>", False, ("completion",)),
        ("{{ tools }}", True, ("embedding",)),
    ],
)
def test_capabilities_need_evidence(template: str, *, pooling: bool, found: tuple[str]) -> None:
    assert found == facts.capabilities(template, pooling=pooling)


@pytest.mark.parametrize(
    ("said", "template"),
    [
        ({}, ""),
        ({"chat_template": "T"}, "T"),
        ({"chat_template": [{"name": "tool_use", "template": "U"}]}, ""),
        ({"chat_template": [{"name": "default", "template": "D"}, 5]}, "D"),
        ({"chat_template": 5}, ""),
    ],
)
def test_the_template_in_a_tokenizer_config(said: dict[str, Any], template: str) -> None:
    assert template == facts.template_of(json.dumps(said).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_a_bad_model(data: bytes) -> None:
    with pytest.raises(InvalidModelError, match=r"config\.json"):
        facts.of_rkllm(data)


def test_an_rkllm_model_is_as_long_as_its_config_says() -> None:
    config = {"model_type": "qwen2", "max_position_embeddings": 32768, "hidden_size": 896}
    details, recorded = facts.of_rkllm(json.dumps(config).encode())

    assert (
        details.context_length,
        details.embedding_length,
        details.family,
    ) == (32768, 896, "qwen2")
    assert recorded.model_info["qwen2.context_length"] == 32768


def test_what_no_file_says_stays_empty() -> None:
    details, recorded = facts.of_rkllm(None)

    assert (details.format, details.family, details.context_length) == ("rkllm", "", None)
    assert recorded.model_info == {}


def test_model_info_hides_what_is_long_or_shown_elsewhere() -> None:
    fields = {
        "general.name": "n",
        "tokenizer.chat_template": "t",
        "general.tags": ["a"],
        "tokenizer.ggml.tokens": ["t"] * 17,
        "x": float("nan"),
    }

    assert facts.shown(fields, parameters=3) == {
        "general.tags": ["a"],
        "tokenizer.ggml.tokens": None,
        "x": None,
        "general.parameter_count": 3,
    }
