"""What `/api/show` says of the rarer parts of a model (contract 2.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rkllama_gateway.dialects.ollama.admin import ShowRequest, parse_create
from rkllama_gateway.dialects.ollama.show import limited, show
from rkllama_protocol.messages import (
    ADAPTER_TYPE,
    WEIGHTS_TYPE,
    ChatMessage,
    Descriptor,
    ModelDetails,
    ResolvedModel,
    ShowReply,
)
from rkllama_protocol.names import ModelName

D = f"sha256:{'d' * 64}"
MODEL = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest=D,
    size=1,
    modified_at="2026-01-01T00:00:00+01:00",
    details=ModelDetails(format="rkllm"),
)


def shown(**facts: Any) -> dict[str, Any]:
    model = MODEL.model_copy(update=facts)
    told: dict[str, Any] = json.loads(
        show(ShowReply(model=model), ShowRequest(model="m", name=ModelName.parse("m")))
    )
    return told


def lines(**facts: Any) -> list[str]:
    """Of the Modelfile, without what it begins with."""
    found: list[str] = shown(**facts)["modelfile"].splitlines()[4:]
    return found


def layer(media_type: str, name: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=D, size=1, name=name)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((), []),
        ((layer(WEIGHTS_TYPE, "w.rkllm"),), []),
        (
            (layer(WEIGHTS_TYPE, "w.rkllm"), layer(ADAPTER_TYPE, "lora.rkllm")),
            ["ADAPTER lora.rkllm"],
        ),
        ((layer(ADAPTER_TYPE, ""),), [f"ADAPTER sha256-{'d' * 64}"]),
    ],
)
def test_an_adapter_is_a_line_after_from(
    layers: tuple[Descriptor, ...], expected: list[str]
) -> None:
    told = lines(layers=layers, system="s")

    assert told == ["FROM m:latest", *expected, "SYSTEM s"]


def test_values_that_the_grammar_would_cut_are_quoted() -> None:
    told = lines(
        system=" edge",
        license=('two\nlines with "quotes"',),
        parameters={"stop": ["<|a|>", "b "], "temperature": 0.5, "top_k": 40.0},
        messages=(ChatMessage(role="user", content="hi"),),
    )

    assert told == [
        "FROM m:latest",
        'SYSTEM " edge"',
        "PARAMETER stop <|a|>",
        'PARAMETER stop "b "',
        "PARAMETER temperature 0.5",
        "PARAMETER top_k 40",
        'LICENSE """two',
        'lines with "quotes""""',
        "MESSAGE user hi",
    ]


def test_requires_is_told_where_it_is_known() -> None:
    assert shown(requires="0.14.0")["requires"] == "0.14.0"
    assert "requires" not in shown()


def test_requires_of_a_create_reaches_the_store() -> None:
    asked = parse_create(b'{"model":"m","from":"b","requires":"0.14.0"}')

    assert asked.to_message("s").requires == "0.14.0"


def test_model_info_is_always_there_and_the_rest_only_where_it_is_known() -> None:
    assert set(shown()) == {"modelfile", "details", "model_info", "modified_at"}
    assert shown()["model_info"] == {}


def test_values_that_were_left_out_are_laid_over_the_rest() -> None:
    reply = ShowReply(model=MODEL, model_info={"a": None, "general.parameter_count": 7})
    asked = ShowRequest(model="m", name=ModelName.parse("m"), verbose=True)
    told = json.loads(show(reply, asked, whole=b'{"a":[1,2]}'))

    assert told["model_info"] == {"a": [1, 2], "general.parameter_count": 7}


def test_lists_are_told_only_if_asked_for_and_keys_in_their_order() -> None:
    """As Ollama, which reads no lists of a GGUF file for a short answer, and whose maps are sorted."""
    reply = ShowReply(model=MODEL, model_info={"b": 1, "a": ["en"]})
    short = json.loads(show(reply, ShowRequest(model="m", name=ModelName.parse("m"))))
    asked = ShowRequest(model="m", name=ModelName.parse("m"), verbose=True)
    long = json.loads(show(reply, asked))

    assert list(short["model_info"].items()) == [("a", None), ("b", 1)]
    assert list(long["model_info"].items()) == [("a", ["en"]), ("b", 1)]


def test_the_template_of_a_models_files_is_shown_and_is_no_line_of_its_modelfile() -> None:
    asked = ShowRequest(model="m", name=ModelName.parse("m"))
    files = json.loads(show(ShowReply(model=MODEL, template="{{ a }}"), asked))
    own = MODEL.model_copy(update={"template": "{{ b }}"})
    told = json.loads(show(ShowReply(model=own, template=""), asked))

    assert files["template"] == "{{ a }}"
    assert "TEMPLATE" not in files["modelfile"]
    assert told["template"] == "{{ b }}"
    assert "TEMPLATE {{ b }}" in told["modelfile"]


@pytest.mark.parametrize(
    ("known", "limit", "told"),
    [
        ({}, 4096, {"qwen2.context_length": 4096}),
        (
            {"general.architecture": "x"},
            4096,
            {"general.architecture": "x", "x.context_length": 4096},
        ),
        ({"qwen2.context_length": 32768}, 4096, {"qwen2.context_length": 4096}),
        ({"qwen2.context_length": 2048}, 4096, {"qwen2.context_length": 2048}),
        ({"qwen2.context_length": 2048}, None, {"qwen2.context_length": 2048}),
    ],
)
def test_what_a_file_was_converted_for_is_known_once_it_was_loaded(
    known: dict[str, Any], limit: int | None, told: dict[str, Any]
) -> None:
    facts = MODEL.model_copy(update={"details": ModelDetails(family="qwen2")})

    assert limited(ShowReply(model=facts, model_info=known), context_limit=limit).model_info == told


def test_of_a_model_of_an_unknown_family_no_context_is_told() -> None:
    """There is no name to tell it under."""
    facts = MODEL.model_copy(update={"details": ModelDetails()})

    assert limited(ShowReply(model=facts), context_limit=4096).model_info == {}
