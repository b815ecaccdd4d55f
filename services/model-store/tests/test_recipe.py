"""What a create request is refused for before any work begins (contract 2.14)."""

from __future__ import annotations

import pytest
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    RkllamaError,
    UnsupportedError,
)
from rkllama_protocol.messages import CreateRequest
from rkllama_store.recipe import check_template, merged, recipe, weights_file

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
        ({"base": "x", "files": {"m.gguf": D}}, UnsupportedError, "not both"),
        ({"base": "x", "template": "{{ .Prompt }}"}, UnsupportedError, "Go template"),
        ({"base": "x", "template": "{{ x"}, InvalidJobError, "template error: template: :1:"),
    ],
)
def test_refused_at_once(what: dict[str, object], kind: type[RkllamaError], text: str) -> None:
    request = CreateRequest.model_validate({"stream_id": "s", "model": "m", **what})
    with pytest.raises(kind) as refused:
        recipe(request)

    assert text in refused.value.message


@pytest.mark.parametrize(
    "template",
    [
        "{{ .System }}",
        "{{- if .System }}x{{ end }}",
        "{{ range .Messages }}{{ end }}",
        "{{- end -}}",
        "{{ $x := 1 }}",
    ],
)
def test_a_go_template_is_told_apart(template: str) -> None:
    with pytest.raises(UnsupportedError):
        check_template(template)


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
    check_template(template)


def test_a_template_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="nested too deeply"):
        check_template("{{ " + "(" * 100_000)


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


def test_parameters_merge_and_lists_are_replaced() -> None:
    base = {"temperature": 1, "stop": ["a", "b"]}

    assert merged(base, {"stop": ["c"], "top_k": 3}) == {
        "temperature": 1,
        "stop": ["c"],
        "top_k": 3,
    }
