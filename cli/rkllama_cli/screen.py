"""The terminal, where there is one: what it can do, and how it is left."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

_LOCAL_FLAGS = 3
"""Where `termios` has them."""
_PIPE_WIDTH = 4000


def console(*, stderr: bool = False) -> Console:
    """The screen; what is read by a program is not broken into lines."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal:
        found.width = _PIPE_WIDTH
    return found


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sits there, before a screen that obeys escapes."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keys do not disturb what is on the screen.

    What is typed ahead is for the next prompt and is not shown before, and a Ctrl-C does not have
    the terminal throw away what was written and is not drawn yet.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = termios.tcgetattr(fd)
    silent[_LOCAL_FLAGS] = silent[_LOCAL_FLAGS] & ~termios.ECHO | termios.NOFLSH
    termios.tcsetattr(fd, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


@contextmanager
def waiting(err: Console, text: str = "") -> Iterator[None]:
    """A sign on a terminal that something is under way."""
    if err.is_terminal and not err.is_dumb_terminal:
        with undisturbed(), err.status(text, spinner="dots"):
            yield
    else:
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A Ctrl-C inside this context takes effect at its end. For the main thread only."""
    pressed = False

    def note(_number: int, _frame: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
