"""The part of an answer that a model thinks, between the tags of its chat template.

<think> reasoning </think> answer        tags, and white space around them, belong to neither
^ in the text, or already at the end of the prompt
"""

from __future__ import annotations

from typing import Literal

from rkllama_protocol.templates import ThinkingTags


class ThinkingParser:
    """Parts thinking from content; how the text was cut into pieces does not change their sums."""

    def __init__(self, tags: ThinkingTags, *, prompt: str = "") -> None:
        """`prompt` is the rendered one: some templates open the thinking there."""
        self._tags = tags
        self._held = ""
        opened = prompt.rstrip().endswith(tags.open)
        self._state: Literal["before", "thinking", "between", "content"] = (
            "thinking" if opened else "before"
        )
        self._may_open = opened
        """Whether the model may write the tag that the prompt ended with once more."""
        self._thought = False
        """Whether anything but white space has been thought."""

    @property
    def over(self) -> bool:
        """Whether all that follows is content."""
        return self._state in {"between", "content"}

    @property
    def done(self) -> bool:
        """Whether nothing is left to do here."""
        return self._state == "content"

    def feed(self, text: str) -> tuple[str, str]:
        """The thinking and the content, which follows it, that `text` surely adds."""
        if self._state == "content":
            return "", text
        self._held += text
        thinking, content = "", ""
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
                    content, self._held = self._held, ""
            moving = self._state != before
        return thinking, content

    def flush(self) -> tuple[str, str]:
        """What was held back for a tag that did not come."""
        held, self._held = self._held, ""
        if self._state == "thinking":
            return held.rstrip(), ""
        return "", held if self._state != "between" else ""

    def _before(self) -> None:
        text = self._held.lstrip()
        if text.startswith(self._tags.open):
            self._held, self._state = text[len(self._tags.open) :], "thinking"
        elif not self._tags.open.startswith(text):
            self._state = "content"

    def _thinking(self) -> str:
        if not self._thought:
            self._held = self._held.lstrip()
            if self._may_open and self._held:
                if self._held.startswith(self._tags.open):
                    self._held = self._held[len(self._tags.open) :].lstrip()
                elif self._tags.open.startswith(self._held):
                    return ""
                self._may_open = False
        shown, tag, rest = self._held.partition(self._tags.close)
        if tag:
            self._held, self._state = rest, "between"
            return shown.rstrip()
        kept = len(self._held) - self._possible()
        # White space is held too: it may stand before the tag.
        shown = self._held[:kept].rstrip()
        self._held = self._held[len(shown) :]
        self._thought = self._thought or bool(shown)
        return shown

    def _between(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = "content"

    def _possible(self) -> int:
        """Length of the longest end of the held text that the closing tag begins with."""
        close = self._tags.close
        lengths = range(min(len(self._held), len(close) - 1), 0, -1)
        return next((length for length in lengths if close.startswith(self._held[-length:])), 0)
