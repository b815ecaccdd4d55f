"""The predecessor's grammar, and telling the two apart."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_modelfile import (
    Grammar,
    Modelfile,
    ModelfileError,
    detect,
    parse,
    parse_predecessor,
)

WHOLE = """# written by a pull
FROM="Qwen2.5-3B-Instruct-rk3588-w8a8.rkllm"

HUGGINGFACE_PATH="Qwen/Qwen2.5-3B-Instruct"

SYSTEM="You are brief.
Very."
TEMPERATURE=0.5   # warm
ENABLE_THINKING="true"
export NUM_CTX='4096'
top_k = 7
MIROSTAT=0
IMG_START=<|vision_start|>
TOKENIZER=old
"""


def test_every_kind_of_line() -> None:
    assert parse_predecessor(WHOLE) == Modelfile(
        sources=("Qwen2.5-3B-Instruct-rk3588-w8a8.rkllm",),
        tokenizer_repo="Qwen/Qwen2.5-3B-Instruct",
        system="You are brief.\nVery.",
        parameters=(
            ("temperature", "0.5"),
            ("top_k", "7"),
            ("mirostat", "0"),
            ("num_ctx", "4096"),
            ("think", "true"),
            ("image_start", "<|vision_start|>"),
        ),
        ignored=("TOKENIZER",),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", ""),
        ("plain words", "plain words"),
        ("a#b", "a#b"),
        ("#a", "#a"),
        ("  # a comment", ""),
        ("'single \\' quote'", "single ' quote"),
        ('"a\\nb \\"c\\" \\\\ \\x"', 'a\nb "c" \\ \\x'),
        ("'a\\nb'", "a\\nb"),
        ('"# inside"  # outside', "# inside"),
        ('"two\r\nlines"', "two\r\nlines"),
        ("{{ x = 1 }}", "{{ x = 1 }}"),
    ],
)
def test_values(written: str, meant: str) -> None:
    for end in ("", "\n", "\r\n# x\r\nLICENSE=MIT"):
        assert parse_predecessor(f"FROM=m.rkllm\nSYSTEM={written}{end}").system == meant


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM line"),
        ("FROM=", "no FROM line"),
        ("SYSTEM=x", "no FROM line"),
        ("FROM=m\nwhat is this", "(line 2): expected KEY=VALUE"),
        ('FROM=m\n\nSYSTEM="open', "(line 3): the quote is not closed"),
        ('FROM="m" x', "(line 1): text after the closing quote"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(ModelfileError) as refused:
        parse_predecessor(text)

    assert str(refused.value) == error


@pytest.mark.parametrize(
    ("text", "grammar"),
    [
        (WHOLE, Grammar.PREDECESSOR),
        ("FROM = m.rkllm\nHUGGINGFACE_PATH = a/b", Grammar.PREDECESSOR),
        ("SYSTEM=x\nTOP_K=1", Grammar.PREDECESSOR),
        ("# c\n\nFROM m\nPARAMETER top_k 1", Grammar.OLLAMA),
        ('FROM m\nSYSTEM """\nFROM=x\n"""', Grammar.OLLAMA),
        ("SYSTEM a=b", Grammar.OLLAMA),
        ("", Grammar.OLLAMA),
    ],
)
def test_the_grammars_are_told_apart(text: str, grammar: Grammar) -> None:
    assert detect(text) is grammar


def test_parse_takes_either() -> None:
    assert parse("FROM m").sources == parse("FROM=m").sources == ("m",)


PIECES = st.sampled_from(["FROM=", "SYSTEM", "=", '"', "'", "\\", "\n", "\r", "#", " ", "export "])


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_predecessor, parse):
        with suppress(ModelfileError):
            assert any(read(text).sources)


@given(st.text(max_size=200))
def test_what_is_quoted_comes_back(text: str) -> None:
    written = text.replace("\\", "\\\\").replace('"', '\\"')

    assert parse_predecessor(f'FROM=m\nSYSTEM="{written}"').system == text
