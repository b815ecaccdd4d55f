"""Ollama's grammar, by the contract's 6.1."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_modelfile import Message, Modelfile, ModelfileError, decoded, parse_ollama
from rkllama_modelfile.ollama import INVALID_COMMAND, INVALID_ROLE


def test_every_instruction() -> None:
    text = """# how it is made
FROM base:1
from ./more.gguf
ADAPTER ./lora.gguf
  PARAMETER stop "<|a|>"
parameter stop b c
PARAMETER temperature 0.5
TEMPLATE {{ .Prompt }}
SYSTEM first
System second
LICENSE MIT
LICENSE "Apache"
MESSAGE user hi
MESSAGE assistant "hello there"
RENDERER r
PARSER p
REQUIRES 0.14.0
DRAFT ./small.gguf
"""

    assert parse_ollama(text) == Modelfile(
        sources=("base:1", "./more.gguf"),
        adapters=("./lora.gguf",),
        drafts=("./small.gguf",),
        template="{{ .Prompt }}",
        system="second",
        licenses=("MIT", "Apache"),
        parameters=(("stop", "<|a|>"), ("stop", "b c"), ("temperature", "0.5")),
        messages=(Message("user", "hi"), Message("assistant", "hello there")),
        renderer="r",
        parser="p",
        requires="0.14.0",
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain  text ", "plain  text"),
        ('" kept "', " kept "),
        ('""', ""),
        ('""""""', ""),
        ('"""one line"""', "one line"),
        ('"""\nas\n\nit is\n"""', "\nas\n\nit is\n"),
        ('"""a "quoted" word"""', 'a "quoted" word'),
        ('"over\ntwo lines"', "over\ntwo lines"),
        ('"a" and "b"', 'a" and "b'),
        ("'single'", "'single'"),
        ('"""\n# no comment\nFROM inside\n"""', "\n# no comment\nFROM inside\n"),
        ("a\ttab", "a\ttab"),
        ("bell\x07 and joiner\u200d", "bell and joiner"),
        ('"""closed late"""   ', "closed late"),
        ('"\\n"', "\\n"),
        ("# not a comment", "# not a comment"),
    ],
)
def test_values(written: str, meant: str) -> None:
    for end in ("", "\n", "\nSYSTEM x\n"):
        assert parse_ollama(f"FROM m\nTEMPLATE {written}{end}").template == meant


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_ends(end: str) -> None:
    text = end.join(["FROM m", "", "# c", 'SYSTEM "a', 'b"', "TEMPLATE t", ""])
    found = parse_ollama(text)

    assert (found.sources, found.system, found.template) == (("m",), f"a{end}b", "t")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM line"),
        ("# FROM m", "no FROM line"),
        ("SYSTEM x", "no FROM line"),
        ("FROM ", "no FROM line"),
        ("FROM m\nFOO bar", f"(line 2): {INVALID_COMMAND}"),
        ("FROM m\n\nF00 bar\n", f"(line 3): {INVALID_COMMAND}"),
        ("FROM m\nSYSTEM\n", f"(line 2): {INVALID_COMMAND}"),
        ("FROM=m.rkllm", f"(line 1): {INVALID_COMMAND}"),
        ("FROM", "unexpected EOF"),
        ("FROM m\nPARAMETER stop", "unexpected EOF"),
        ("PARAMETER stop\nFROM m", "unexpected EOF: stop"),
        ("FROM m\nPARAMETER top-k 1", "unexpected EOF: top"),
        ("FROM m\nMESSAGE user", "unexpected EOF"),
        ("FROM m\nMESSAGE tool x", f"(line 2): {INVALID_ROLE}"),
        ("FROM m\nMESSAGE User x", f"(line 2): {INVALID_ROLE}"),
        ('FROM m\nSYSTEM "open', "unexpected EOF"),
        ('FROM m\nSYSTEM """open"', "unexpected EOF"),
        ('FROM m\nSYSTEM """""', "unexpected EOF"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(ModelfileError) as refused:
        parse_ollama(text)

    assert str(refused.value) == error


TEXT = "FROM m\nSYSTEM héllo\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_encodings(data: bytes) -> None:
    assert parse_ollama(decoded(data)).system == "héllo"


PIECES = st.sampled_from(
    ["FROM ", "from m", "PARAMETER ", "stop", "MESSAGE ", "user", " ", '"', '"""', "\n", "\r", "#"]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_ollama(text)
    except ModelfileError:
        return

    assert any(found.sources)


@given(
    st.text(max_size=200).filter(lambda t: '"""' not in t and not t.endswith('"')),
)
def test_what_is_quoted_comes_back(text: str) -> None:
    """Only what cannot be printed is dropped."""
    shown = "".join(c for c in text if c.isprintable() or c in "\t\r\n")

    assert parse_ollama(f'FROM m\nSYSTEM """{text}"""\n').system == shown


@given(st.binary(max_size=200))
def test_any_bytes_are_text(data: bytes) -> None:
    assert isinstance(decoded(data), str)
