r"""Streamed text for a terminal: broken between words, and nothing in it that moves the cursor.

A word is shown while it comes. One that reaches the edge is taken back and begins the next line, so
that nobody waits for its end. Fenced code is left as it is, to be copied.
"""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

_TAB = 8
_FENCE = "```"


def printable(text: str) -> str:
    """`text` without what a terminal would obey; newlines and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


class Flow:
    """One text; `feed` turns each piece into what is to be written."""

    def __init__(self, width: int, *, wrap: bool = True) -> None:
        # The last column stays empty: a terminal that has filled it is between two lines.
        self._limit = max(width - 1, 1)
        self._wrap = wrap
        self._column = 0
        self._word = ""
        self._head = ""
        """How the line of the text begins: a fence or not."""
        self._fenced = False

    @property
    def at_line_start(self) -> bool:
        """Whether what comes next begins a line."""
        return self._column == 0

    def feed(self, text: str) -> str:
        """What to write for the next piece."""
        text = printable(text)
        if not self._wrap:
            if text:
                self._column = 0 if text.endswith("\n") else 1
            return text
        return "".join(map(self._character, text))

    def _character(self, character: str) -> str:
        if character == "\n":
            if self._head.startswith(_FENCE):
                self._fenced = not self._fenced
            self._column, self._word, self._head = 0, "", ""
            return character
        if len(self._head) < len(_FENCE):
            self._head = (self._head + character).lstrip()
        if self._fenced or self._head.startswith(_FENCE):
            self._column += cell_len(character)
            return character
        if character in " \t":
            return self._blank(character)
        return self._letter(character)

    def _blank(self, character: str) -> str:
        self._word = ""
        cells = 1 if character == " " else _TAB - self._column % _TAB
        if self._column + cells > self._limit:
            self._column = 0
            return "\n"
        self._column += cells
        return " " * cells

    def _letter(self, character: str) -> str:
        cells = cell_len(character)
        if cells > 1:
            # What is written without blanks may be broken anywhere.
            self._word = ""
        if self._column + cells <= self._limit:
            self._word += character
            self._column += cells
            return character
        word, taken = self._word, cell_len(self._word)
        if taken >= self._column:
            # Longer than a line.
            word, taken = "", 0
        back = f"\x1b[{taken}D\x1b[K" if taken else ""
        self._word = word + character
        self._column = taken + cells
        return f"{back}\n{self._word}"
