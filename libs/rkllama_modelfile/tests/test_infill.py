"""Layouts for filling in the middle, by the tokens of each family."""

from __future__ import annotations

import pytest
from rkllama_modelfile import fills_in, infill_of


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (
            ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|im_end|>"),
            "<|fim_prefix|>p<|fim_suffix|>s<|fim_middle|>",
        ),
        (
            ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
            "<fim_prefix>p<fim_suffix>s<fim_middle>",
        ),
        (
            (
                "<\uff5cfim\u2581begin\uff5c>",
                "<\uff5cfim\u2581hole\uff5c>",
                "<\uff5cfim\u2581end\uff5c>",
            ),
            "<\uff5cfim\u2581begin\uff5c>p<\uff5cfim\u2581hole\uff5c>s<\uff5cfim\u2581end\uff5c>",
        ),
        (
            ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", "\u2581<EOT>"),
            "\u2581<PRE>p\u2581<SUF>s\u2581<MID>",
        ),
        (("[PREFIX]", "[SUFFIX]", "[MIDDLE]"), "[SUFFIX]s[PREFIX]p"),
    ],
)
def test_every_family_has_its_layout(tokens: tuple[str, ...], text: str) -> None:
    family = infill_of(tokens)

    assert family is not None
    assert family.text("p", "s") == text


@pytest.mark.parametrize(
    "tokens", [(), ("<|fim_prefix|>", "<|fim_suffix|>"), ("<|im_start|>", "<|im_end|>")]
)
def test_a_tokenizer_without_the_tokens_has_none(tokens: tuple[str, ...]) -> None:
    assert infill_of(tokens) is None


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ prompt }}<SUF>{{ suffix }}", True),
        ("{%- if suffix -%}x{%- endif -%}", True),
        ("the suffix of {{ messages[0].content }}", False),
        ("{{ messages.suffixes }}", False),
    ],
)
def test_a_template_with_a_place_for_the_suffix(template: str, found: bool) -> None:
    assert fills_in(template) is found
