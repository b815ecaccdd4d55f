"""Reading text that is still arriving: a reader is a generator that stops where the text ends.

text  {"name": "get_weath          a reader yields None until there is more,
                         ^ at      or a `Found` for each call that is whole
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Found(NamedTuple):
    """One call, whole."""

    name: str
    arguments: dict[str, Any]


Steps = Generator[Found | None, None, T]
"""A reader that in the end gives a `T`."""


class NotACallError(Exception):
    """The text can no longer become a call."""


class Source:
    """The text of one candidate, from the last whole call on, and how far it has been read."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.at = 0
        self.between = False
        """Whether what has been read since the last call is only what may stand between calls."""

    def cut(self) -> None:
        """Forget what has been read."""
        self.text = self.text[self.at :]
        self.at = 0


_SPACE = re.compile(r"\s*")


def space(source: Source) -> Steps[str]:
    """Pass over white space; the character behind it, which stays."""
    while True:
        source.at = _end(_SPACE, source)
        if source.at < len(source.text):
            return source.text[source.at]
        yield None


def literal(source: Source, *words: str) -> Steps[str]:
    """Pass over one of the words, none of which begins another; which one it was."""
    while True:
        rest = source.text[source.at : source.at + max(map(len, words))]
        for word in words:
            if rest.startswith(word):
                source.at += len(word)
                return word
        if not any(word.startswith(rest) for word in words):
            raise NotACallError
        yield None


def until(source: Source, end: str, *, among: Collection[str] | None = None) -> Steps[str]:
    """Pass over text and the `end` behind it; the text, which has to be one of `among`."""
    begin, searched = source.at, source.at
    while True:
        at = source.text.find(end, searched)
        whole = at >= 0
        if whole or among is not None:
            text = source.text[begin : at if whole else None]
            if among is not None and not _begins(text, among, whole=whole, end=end):
                raise NotACallError
            if whole:
                source.at = at + len(end)
                return text
        searched = max(begin, len(source.text) - len(end) + 1)
        yield None


_WORD = re.compile(r"[\w.-]*")


def word(source: Source, *, among: Collection[str]) -> Steps[str]:
    """Pass over a name and stop before what cannot belong to it."""
    begin = source.at
    while True:
        source.at = _end(_WORD, source)
        text = source.text[begin : source.at]
        whole = source.at < len(source.text)
        if not _begins(text, among, whole=whole):
            raise NotACallError
        if whole:
            return text
        yield None


def _begins(text: str, among: Collection[str], *, whole: bool, end: str = "") -> bool:
    if whole:
        return text in among
    return any((one + end).startswith(text) for one in among)


def _end(pattern: re.Pattern[str], source: Source) -> int:
    """Where the pattern, which matches also nothing, ends."""
    matched = pattern.match(source.text, source.at)
    return source.at if matched is None else matched.end()
