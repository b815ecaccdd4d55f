"""One answer on the screen: streamed, with dimmed thinking, and stopped by Ctrl-C."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from typing import TextIO

from rich.console import Console

from rkllama_cli import chat as chats
from rkllama_cli import words
from rkllama_cli.api import Api
from rkllama_cli.chat import Chat
from rkllama_cli.flow import Flow
from rkllama_cli.screen import is_terminal, undisturbed, waiting
from rkllama_cli.wire import Piece, Timings

_DIM = "\x1b[2m"
_PLAIN = "\x1b[0m"
_CUT = "The answer was cut: it reached the longest length that is allowed."


class Printer:
    """Writes an answer: laid out on a terminal, as it is anywhere else, and there without thinking."""

    def __init__(self, chat: Chat, out: TextIO) -> None:
        self._out = out
        self._terminal = is_terminal(out)
        self._show_thinking = self._terminal and not chat.hide_thinking
        self._wrap = chat.wrap and self._terminal
        self._flow = self._begin()
        self._thinks = False
        self.content = ""
        self.thinking = ""

    def show(self, piece: Piece) -> None:
        """Write what a piece holds."""
        if text := piece.message.thinking:
            self._think(text)
        if text := piece.message.content:
            self._answer(text)

    def end(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if self._thinks:
            self._end_thinking()
        elif self.content and not (self._terminal and self._flow.at_line_start):
            self._write("\n")

    def _begin(self) -> Flow:
        return Flow(shutil.get_terminal_size().columns, wrap=self._wrap)

    def _think(self, text: str) -> None:
        self.thinking += text
        if not self._show_thinking:
            return
        if not self._thinks:
            self._thinks = True
            self._write(f"{_DIM}Thinking ...{_PLAIN}\n")
            text = text.lstrip()
        self._write(f"{_DIM}{self._flow.feed(text)}{_PLAIN}")

    def _end_thinking(self) -> None:
        self._thinks = False
        line = "" if self._flow.at_line_start else "\n"
        self._write(f"{line}{_DIM}... done thinking.{_PLAIN}\n")
        self._flow = self._begin()

    def _answer(self, text: str) -> None:
        if self._thinks:
            self._end_thinking()
            self._write("\n")
        if not self.content.strip():
            # A model that has thought begins with blank lines.
            text = text.lstrip("\n") if self._terminal else text
        self.content += text
        self._write(self._flow.feed(text) if self._terminal else text)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def ask(api: Api, chat: Chat, *, err: Console) -> tuple[Chat, bool]:
    """Have the last turn answered on the screen; the conversation, and whether it came to its end.

    Ctrl-C stops the answer, here and in the server. What was said until then counts.

    Raises:
        CliError: The server refused, or the answer broke off.
    """
    printer = Printer(chat, sys.stdout)
    last: Timings | None = None
    try:
        with undisturbed(), closing(api.chat(chats.request(chat))) as pieces:
            with waiting(err):
                piece = next(pieces)
                while not (piece.done or piece.message.content or piece.message.thinking):
                    piece = next(pieces)
            printer.show(piece)
            for piece in pieces:
                printer.show(piece)
            last = piece
    except KeyboardInterrupt:
        api.hang_up()
    finally:
        printer.end()
    if last is not None:
        _account(last, chat, err)
    if not printer.content:
        return chat, last is not None
    return chats.answered(chat, printer.content, printer.thinking), last is not None


def _account(last: Timings, chat: Chat, err: Console) -> None:
    if last.done_reason == "length" and err.is_terminal:
        err.print(_CUT, style="dim")
    if chat.verbose:
        err.print()
        for name, value in timings(last):
            err.print(f"{name:<22}{value}", markup=False, highlight=False)


def timings(last: Timings) -> list[tuple[str, str]]:
    """What `--verbose` shows, only what the server told."""
    rows = [
        ("total duration", _took(last.total_duration)),
        ("load duration", _took(last.load_duration)),
        ("prompt eval count", _tokens(last.prompt_eval_count)),
        ("prompt eval duration", _took(last.prompt_eval_duration)),
        ("prompt eval rate", _rate(last.prompt_eval_count, last.prompt_eval_duration)),
        ("eval count", _tokens(last.eval_count)),
        ("eval duration", _took(last.eval_duration)),
        ("eval rate", _rate(last.eval_count, last.eval_duration)),
    ]
    return [(name, value) for name, value in rows if value]


def _took(nanoseconds: int) -> str:
    return words.duration(nanoseconds) if nanoseconds else ""


def _tokens(count: int) -> str:
    return f"{count} token" + ("s" if count != 1 else "") if count else ""


def _rate(tokens: int, nanoseconds: int) -> str:
    if not tokens or not nanoseconds:
        return ""
    return f"{tokens * words.NANOSECONDS / nanoseconds:.2f} tokens/s"
