"""Streamed text on a terminal: what is on the screen does not depend on how it came in pieces."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_cli.flow import Flow, printable

WIDTH = 20


def on_screen(*pieces: str, wrap: bool = True) -> list[str]:
    """What a terminal of 20 columns shows."""
    flow = Flow(WIDTH, wrap=wrap)
    screen = pyte.Screen(WIDTH, 60)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.Stream(screen)
    for piece in pieces:
        stream.feed(flow.feed(piece))
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (("the quick brown fox jumps",), ["the quick brown fox", "jumps"]),
        (("the quick bro", "wn foxes", " jump"), ["the quick brown", "foxes jump"]),
        (("a" * 30,), ["a" * 19, "a" * 11]),
        (("so " + "a" * 30,), ["so", "a" * 19, "a" * 11]),
        (("one\n", "two"), ["one", "two"]),
        (("海" * 12,), ["海" * 9, "海" * 3]),
    ],
)
def test_lines_are_broken_between_words(pieces: tuple[str, ...], lines: list[str]) -> None:
    shown = on_screen(*pieces)

    assert shown == lines


def test_code_is_left_as_it_is() -> None:
    """To be copied: the only newlines are its own."""
    code = "```\n" + "word " * 20 + "\n```\n"

    assert Flow(WIDTH).feed(code) == code


def test_without_wrapping_nothing_is_changed() -> None:
    assert Flow(WIDTH, wrap=False).feed("word " * 20) == "word " * 20


def test_a_model_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\x07\r\x9b1mc\td\n") == "a[2Jb1mc\td\n"


@given(st.lists(st.text(alphabet="ab é海\n", max_size=12), max_size=12))
def test_pieces_do_not_show(pieces: list[str]) -> None:
    assert on_screen(*pieces) == on_screen("".join(pieces))


@given(st.text(alphabet="abc \n", max_size=120))
def test_nothing_is_lost(text: str) -> None:
    assert "".join(on_screen(text)).replace(" ", "") == text.replace(" ", "").replace("\n", "")
