"""The output parser: the answer's text to deltas of content and thinking.

    <think> reasoning </think> answer        tags, and white space around them, belong to neither
    ^ in the text, or already at the end of the prompt

A model thinks in tags only where its chat template shows them; without, all text is content.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

OPEN = "<think>"
CLOSE = "</think>"


class Delta(NamedTuple):
    """What a piece of text adds to the answer."""

    content: str = ""
    thinking: str = ""


def thinks(template: str) -> bool:
    """Whether a model with this chat template wraps its reasoning in tags."""
    return CLOSE in template


class OutputParser:
    """The deltas of one answer; how the text was cut into pieces does not change their sum."""

    def __init__(self, *, thinking: bool, prompt: str = "") -> None:
        """`prompt` is the rendered one: some templates open the thinking there."""
        self._held = ""
        self._state: Literal["before", "thinking", "between", "content"] = "content"
        if thinking:
            self._state = "thinking" if prompt.rstrip().endswith(OPEN) else "before"
        self._thought = False
        """Whether anything but white space has been thought."""

    def feed(self, text: str) -> Delta:
        """What `text` surely adds."""
        if self._state == "content" and not self._held:
            return Delta(content=text)
        self._held += text
        content, thinking = "", ""
        moving = True
        while moving:
            before = self._state
            match self._state:
                case "before":
                    self._before()
                case "thinking":
                    thinking += self._thinking()
                case "between":
                    self._between()
                case "content":
                    content, self._held = content + self._held, ""
            moving = self._state != before
        return Delta(content, thinking)

    def flush(self) -> Delta:
        """What was held back for a tag that did not come."""
        held, self._held = self._held, ""
        if self._state == "thinking":
            return Delta(thinking=held.rstrip())
        return Delta(content=held if self._state != "between" else "")

    def _before(self) -> None:
        text = self._held.lstrip()
        if text.startswith(OPEN):
            self._held, self._state = text[len(OPEN) :], "thinking"
        elif not OPEN.startswith(text):
            self._state = "content"

    def _thinking(self) -> str:
        if not self._thought:
            self._held = self._held.lstrip()
        shown, tag, rest = self._held.partition(CLOSE)
        if tag:
            self._held, self._state = rest, "between"
            return shown.rstrip()
        kept = len(self._held) - _possible(self._held)
        # White space is held too: it may stand before the tag.
        shown = self._held[:kept].rstrip()
        self._held = self._held[len(shown) :]
        self._thought = self._thought or bool(shown)
        return shown

    def _between(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = "content"


def _possible(text: str) -> int:
    """Length of the longest end of `text` that the closing tag begins with."""
    lengths = range(min(len(text), len(CLOSE) - 1), 0, -1)
    return next((length for length in lengths if CLOSE.startswith(text[-length:])), 0)
