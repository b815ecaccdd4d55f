"""What files say about a model: tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_modelfile import template_twins
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.messages import ModelDetails
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
        ("{% for call in message.tool_calls %}", False, ("completion",)),
        ("<think>{{ x }}</think>", False, ("completion", "thinking")),
        ("<think>", False, ("completion",)),
        ("{{ tools }}", True, ("embedding",)),
    ],
)
def test_capabilities_need_evidence(template: str, *, pooling: bool, found: tuple[str]) -> None:
    assert found == facts.capabilities(template, pooling=pooling)


@pytest.mark.parametrize(
    ("template", "tokens", "found"),
    [
        ("", {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}, ("completion", "insert")),
        ("{{ prompt }}{{ suffix }}", (), ("completion", "insert")),
        ("{{ tools }}", {"<fim_prefix>", "<fim_suffix>"}, ("completion", "tools")),
    ],
)
def test_a_model_fills_in_by_its_tokens_or_its_template(
    template: str, tokens: set[str], found: tuple[str, ...]
) -> None:
    assert found == facts.capabilities(template, pooling=False, added_tokens=tokens)
    assert facts.capabilities(template, pooling=True, added_tokens=tokens) == ("embedding",)


def test_added_tokens_are_read_from_the_tokenizers_file() -> None:
    said = b'{"added_tokens": [{"id": 1, "content": "<a>"}, {"content": 5}, "x"], "model": {}}'

    assert facts.added_tokens(said) == {"<a>", ""}
    assert facts.added_tokens(b"{}") == facts.added_tokens(b"{") == frozenset()


@pytest.mark.parametrize(
    ("name", "can"),
    [
        ("CHATML", {"completion"}),
        ("LLAMA3", {"completion"}),
        ("QWEN2_5", {"completion", "tools"}),
        ("QWEN3", {"completion", "tools", "thinking"}),
        ("CHATML_THINKING", {"completion", "thinking"}),
        ("DEEPSEEK_R1", {"completion", "thinking"}),
        ("MISTRAL_TOOLS", {"completion", "tools"}),
    ],
)
def test_capabilities_follow_from_the_twin(name: str, can: set[str]) -> None:
    assert set(facts.capabilities(getattr(template_twins, name), pooling=False)) == can


@pytest.mark.parametrize(
    ("said", "template"),
    [
        ({}, ""),
        ({"chat_template": "T"}, "T"),
        ({"chat_template": [{"name": "tool_use", "template": "U"}]}, "U"),
        ({"chat_template": [{"name": "default", "template": "D"}, 5]}, "D"),
        (
            {"chat_template": [{"name": n, "template": n} for n in ("tool_use", "default", "x")]},
            "default\ntool_use",
        ),
        ({"chat_template": 5}, ""),
    ],
)
def test_the_template_in_a_tokenizer_config(said: dict[str, Any], template: str) -> None:
    assert template == facts.template_of(json.dumps(said).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_a_bad_model(data: bytes) -> None:
    with pytest.raises(InvalidModelError, match=r"config\.json"):
        facts.of_rkllm("m.rkllm", data)


def test_an_rkllm_model_is_as_long_as_its_config_says() -> None:
    config = {"model_type": "qwen2", "max_position_embeddings": 32768, "hidden_size": 896}
    details, recorded = facts.of_rkllm("m.rkllm", json.dumps(config).encode())

    assert (
        details.context_length,
        details.embedding_length,
        details.family,
    ) == (32768, 896, "qwen2")
    assert recorded.model_info["qwen2.context_length"] == 32768


def test_what_no_file_says_stays_empty() -> None:
    details, recorded = facts.of_rkllm("model.rkllm", None)

    assert details == ModelDetails(format="rkllm")
    assert recorded.model_info == {}


@pytest.mark.parametrize("config", [None, b'{"model_type": "qwen2"}'])
def test_an_rkllm_files_name_says_its_size_and_quantisation(config: bytes | None) -> None:
    details, recorded = facts.of_rkllm("Qwen2.5-3B-Instruct-rk3588-w8a8_g128.rkllm", config)

    assert (details.parameter_size, details.quantization_level) == ("3B", "W8A8_G128")
    # A count that is exact is what files say, and no name.
    assert "general.parameter_count" not in recorded.model_info


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
