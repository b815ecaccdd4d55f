"""Calls of tools in a stream of text.

    begin ---- "{", "[", "```" --> candidate        only the begin of an answer, and what follows a call,
      |            .---------------^ |  |           may be a call without a mark
      v            | a mark          |  `- whole --> after --> candidate, text
    text <---------'<--- no call ----'

Text that could become a call is held back, and nothing else but white space before it. What turns out
to be none, be it a call of a tool that the job does not have, is text again, at once and to the letter.
White space around calls belongs to neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from rkllama_worker.engine.parsing import readers
from rkllama_worker.engine.parsing.arguments import Tools
from rkllama_worker.engine.parsing.scanning import Found, NotACallError, Source
from rkllama_worker.engine.parsing.syntax import FENCE, Mark

Call = dict[str, Any]
Event = str | Call
"""Text to show, or a whole call as clients get it."""

_BARE = ("{", "[", FENCE)
_SEPARATORS = ";,"


class CallParser:
    """The calls of one answer; how the text was cut into pieces does not change the events' sum."""

    def __init__(
        self, marks: tuple[Mark, ...], tools: Tools, *, shape: Callable[[int, Found], Call]
    ) -> None:
        """`shape` makes a call of its index and what was found."""
        self._marks = {mark.open: mark for mark in marks}
        self._tools = tools
        self._shape = shape
        self._opens = re.compile("|".join(map(re.escape, self._marks)) or r"(?!)")
        begins = {mark.open[:n] for mark in marks for n in range(1, len(mark.open))}
        self._begun = re.compile(rf"(?:{'|'.join(map(re.escape, begins)) or '(?!)'}|)\Z")
        """The longest end of a text that may become a mark; it always matches."""
        firsts = "".join({re.escape(mark.open[0]) for mark in marks})
        self._held_by = re.compile(rf"[{firsts}]|\s\Z" if firsts else r"(?!)")
        """What a piece of text has to have in it to be held back, in whole or in part."""
        self.count = 0
        """Of calls so far."""
        self._place: Literal["begin", "text", "candidate", "after"] = "begin"
        self._held = ""
        """Not understood yet; while there is a candidate, what is behind it."""
        self._lead = ""
        """Not shown yet and before that: white space, and what may stand between calls."""
        self._called = False
        """Whether there was any call, or word that there is none."""
        self._shown = False
        """Whether there was any text."""
        self._mark = ""
        """Of the candidate; empty once a call behind it was whole."""
        self._whole = False
        """Whether the candidate had a whole call."""
        self._source = Source()
        self._reader = readers.bare(self._source, tools)

    def begin(self, *, bare: bool) -> None:
        """Start anew, with or without calls that have no mark; nothing may be held back."""
        self._place = "begin" if bare else "text"
        self._shown = False

    def shows(self, text: str) -> bool:
        """Whether what comes next, `text`, is nothing but text, as most is; then it counts as shown."""
        if self._place != "text" or self._held or self._lead or self._held_by.search(text):
            return False
        self._shown = self._shown or bool(text)
        return True

    def feed(self, text: str) -> list[Event]:
        """What `text` surely means."""
        self._held += text
        return self._settled()

    def flush(self) -> list[Event]:
        """What was held back for a call that did not come, or did not become whole."""
        events: list[Event] = []
        if self._place == "candidate" and self._source.between:
            self._leave("")
        elif self._place == "candidate":
            self._give_up(events)
        held, self._held = self._held, ""
        if self._place == "after":
            self._lead, held = "", held if held.strip(_SEPARATORS) else ""
        if held:
            self._show(events, held)
        elif self._lead:
            events.append(self._lead)
        self._lead = ""
        return events

    # -------------------------------------------------------------------- steps

    def _settled(self) -> list[Event]:
        events: list[Event] = []
        moving = True
        while moving:
            match self._place:
                case "begin" | "after":
                    moving = self._look_for_begin()
                case "text":
                    moving = self._look_for_mark(events)
                case "candidate":
                    moving = self._read(events)
        return events

    def _look_for_begin(self) -> bool:
        """Behind white space: a call with or without a mark, or text."""
        rest = self._held.lstrip()
        self._lead += self._held[: len(self._held) - len(rest)]
        self._held = rest
        if self._place == "after" and rest and rest[0] in _SEPARATORS:
            rest = rest[1:].lstrip()
        if not rest:
            return False
        mark = self._opens.match(rest)
        if not mark and any(word.startswith(rest) for word in (*self._marks, FENCE)):
            # Also "[" may begin a mark.
            return False
        if mark or rest.startswith(_BARE):
            self._lead += self._held[: len(self._held) - len(rest)]
            self._held = rest
            self._start(mark.group() if mark else "")
        else:
            self._place = "text"
        return True

    def _look_for_mark(self, events: list[Event]) -> bool:
        mark = self._opens.search(self._held)
        held = mark or self._begun.search(self._held)
        kept = held.start() if held else len(self._held)
        text = self._held[:kept]
        if self._marks:
            text = text.rstrip()
        if text:
            self._show(events, text)
        self._lead += self._held[len(text) : kept]
        self._held = self._held[kept:]
        if mark:
            self._start(mark.group())
        return mark is not None

    def _read(self, events: list[Event]) -> bool:
        self._source.text += self._held
        self._held = ""
        try:
            while (found := next(self._reader)) is not None:
                events.append(self._shape(self.count, found))
                self.count += 1
                self._whole = self._called = True
                self._lead = self._mark = ""
                self._source.cut()
                self._source.between = True
        except StopIteration:
            self._leave(self._source.text[self._source.at :])
        except NotACallError:
            self._give_up(events)
        else:
            return False
        return True

    # ------------------------------------------------------------------- pieces

    def _start(self, mark: str) -> None:
        """Read what is held as a candidate, behind its mark if it has one."""
        self._source = source = Source()
        if mark:
            self._reader = readers.marked(source, self._tools, self._marks[mark])
        elif self._held.startswith(FENCE):
            self._reader = readers.fenced(source, self._tools)
        else:
            self._reader = readers.bare(source, self._tools)
        self._held = self._held[len(mark) :]
        self._mark, self._whole, self._place = mark, False, "candidate"

    def _leave(self, held: str) -> None:
        """The candidate is over."""
        self._called = True
        self._held, self._lead, self._place = held, "", "after"

    def _give_up(self, events: list[Event]) -> None:
        """What was read since the last whole call is text, or may yet be another call."""
        self._held = self._source.text
        self._place = "after" if self._whole else "text"
        if self._mark:
            self._show(events, self._mark)

    def _show(self, events: list[Event], text: str) -> None:
        if self._called and not self._shown:
            self._lead = self._lead.lstrip()
        events.append(self._lead + text)
        self._lead, self._shown = "", True
