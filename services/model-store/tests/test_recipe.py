"""What a create request is refused for before any work begins (contract 2.14)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    RkllamaError,
    UnsupportedError,
)
from rkllama_protocol.messages import CreateRequest, ModelDetails
from rkllama_store.facts import POOLING_FILE
from rkllama_store.recipe import check_quantize, jinja, merged, recipe, weights_file

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ({"model": "a b", "base": "x"}, InvalidJobError, "invalid model name"),
        ({"model": "", "base": "x"}, InvalidJobError, "invalid model name"),
        ({"base": "a b"}, InvalidJobError, "invalid model name"),
        ({}, InvalidJobError, "neither 'from' or 'files' was specified"),
        ({"files": {"m.gguf": ""}}, InvalidJobError, "invalid digest format"),
        ({"files": {"/m.gguf": D}}, InvalidJobError, "file path must be relative"),
        ({"files": {"../m.gguf": D}}, InvalidJobError, "file path must be relative"),
        ({"files": {"a\\..\\m.gguf": D}}, InvalidJobError, "file path must be relative"),
        ({"files": {"m.bin": D}}, InvalidJobError, "unknown type"),
        ({"files": {"vocab.json": D}}, InvalidJobError, "unknown type"),
        ({"files": {"a/m.gguf": D, "b/m.gguf": D}}, InvalidJobError, "m.gguf is given twice"),
        ({"files": {"m.gguf": D, "x.safetensors": D}}, InvalidJobError, "unknown type"),
        ({"base": "x", "files": {"m.gguf": D}}, UnsupportedError, "not both"),
        ({"files": {"m.gguf": D}, "tokenizer_repo": "../r"}, InvalidJobError, "no repository"),
        ({"files": {"m.gguf": D}, "tokenizer_repo": "gpt2"}, InvalidJobError, "no repository"),
        (
            {"base": "x", "template": "{{ range .Tools }} now{{ end }}"},
            UnsupportedError,
            "Go template",
        ),
        ({"base": "x", "template": "{{ x"}, InvalidJobError, "template error: template: :1:"),
        ({"base": "x", "template": "{{ .x"}, InvalidJobError, ":1: unclosed action"),
        ({"base": "x", "adapters": {"a.gguf": ""}}, InvalidJobError, "invalid digest format"),
        ({"base": "x", "adapters": {"../a.gguf": D}}, InvalidJobError, "must be relative"),
        ({"base": "x", "adapters": {"a.safetensors": D}}, InvalidJobError, "unknown type"),
        ({"base": "x", "requires": "new"}, InvalidJobError, "requires must be a valid semver"),
        ({"base": "x", "requires": "1" * 65}, InvalidJobError, "requires must be a valid semver"),
        (
            {"base": "x", "adapters": {"a.gguf": D, "b.gguf": D}},
            InvalidJobError,
            "only one adapter is currently supported",
        ),
        (
            {"adapters": {"a.gguf": D}},
            InvalidJobError,
            "neither 'from' or 'files' was specified",
        ),
    ],
)
def test_refused_at_once(what: dict[str, object], kind: type[RkllamaError], text: str) -> None:
    request = CreateRequest.model_validate({"stream_id": "s", "model": "m", **what})
    with pytest.raises(kind) as refused:
        recipe(request)

    assert text in refused.value.message


def test_what_lies_beside_weights_unneeded_is_left_out() -> None:
    """A model's folder on the hub has a readme and vocabularies that no engine here reads."""
    beside = dict.fromkeys(["a/vocab.json", "a/merges.txt", "README.md", "a/tokenizer.json"], D)
    made = recipe(CreateRequest(stream_id="s", model="m", files={"a/m.rkllm": D} | beside))

    assert set(made.files) == {"m.rkllm", "tokenizer.json"}


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Tools }}",
        "{{- if .Messages }}x{{ end }}",
        "{{ range .Messages }}{{ end }}",
        "{{ $x := 1 }}",
    ],
)
def test_a_go_template_is_told_apart(template: str) -> None:
    with pytest.raises(UnsupportedError):
        jinja(template)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "plain",
        "{{ messages[0].content }}",
        "{%- for m in messages %}{% if m.role %}{% break %}{% endif %}{{- m.content -}}{% endfor %}",
        "{% generation %}{{ x }}{% endgeneration %}",
        "{{ end_token }}{{ template_name }}",
    ],
)
def test_a_jinja_template_is_taken(template: str) -> None:
    assert jinja(template) == template


def test_a_template_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="nested too deeply"):
        jinja("{{ " + "(" * 100_000 + "}}")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["tokenizer.json"], "no .gguf or .rkllm"),
        (["eye.rknn"], "no .gguf or .rkllm"),
        (["a.gguf", "b.rkllm", "tokenizer.json"], "given are a.gguf, b.rkllm"),
        (["m.rkllm"], "needs the tokenizer.json"),
    ],
)
def test_files_that_make_no_model(names: list[str], text: str) -> None:
    with pytest.raises(InvalidModelError, match=text):
        weights_file(dict.fromkeys(names))


def test_the_weights_are_found() -> None:
    assert weights_file({"m.rkllm": 1, "tokenizer.json": 1, "eye.rknn": 1}) == "m.rkllm"
    assert weights_file({"m.gguf": 1}) == "m.gguf"


@pytest.mark.parametrize(
    ("wanted", "have", "kind", "text"),
    [
        (
            "Q4_K_M",
            "Q8_0",
            InvalidModelError,
            "quantization is only supported for F16, BF16 and F32 models",
        ),
        (
            "BOGUS",
            "Q8_0",
            RkllamaError,
            "quantization type BOGUS - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
        ("Q4_K_M", "F16", UnsupportedError, "this server cannot make Q4_K_M of F16"),
        ("Q8_0", "", InvalidModelError, "only supported for F16"),
    ],
)
def test_nothing_is_quantised(wanted: str, have: str, kind: type[RkllamaError], text: str) -> None:
    with pytest.raises(kind) as refused:
        check_quantize(wanted, ModelDetails(quantization_level=have))

    assert text in refused.value.message


@pytest.mark.parametrize(("wanted", "have"), [("", "Q8_0"), ("F16", "F16"), ("", "")])
def test_what_is_there_already_needs_no_quantising(wanted: str, have: str) -> None:
    check_quantize(wanted, ModelDetails(quantization_level=have))


HOSTILE = st.text(alphabet="./\\:%-_aA0 \x00\n~@sha256", max_size=30)
NAMED = st.builds(lambda head, end: head + end, HOSTILE, st.sampled_from([".gguf", ".rkllm", ""]))


@given(
    model=HOSTILE,
    base=st.one_of(st.just(""), HOSTILE),
    files=st.dictionaries(NAMED, st.one_of(st.just(D), HOSTILE), max_size=3),
    adapters=st.dictionaries(NAMED, st.one_of(st.just(D), HOSTILE), max_size=2),
    template=HOSTILE,
    quantize=HOSTILE,
)
def test_any_request_is_a_recipe_or_refused(**fields: Any) -> None:
    """And no file of a recipe has a name that leads anywhere."""
    try:
        made = recipe(CreateRequest(stream_id="s", **fields))
    except RkllamaError:
        return

    names = [*made.files, *(made.adapter or ())[:1]]
    assert all("/" not in name or name == POOLING_FILE for name in names)


def test_parameters_merge_and_lists_are_replaced() -> None:
    base = {"temperature": 1, "stop": ["a", "b"]}

    assert merged(base, {"stop": ["c"], "top_k": 3}) == {
        "temperature": 1,
        "stop": ["c"],
        "top_k": 3,
    }
