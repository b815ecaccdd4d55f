"""The output parser: the answer's text to deltas of thinking, calls of tools, and content.

What there is to find depends on the chat template and the job; where there is nothing, text is content
and costs nothing. Thinking is unparsed if the job asks for none: then a model's tags are text like any
other (contract 2.7). A call inside the thinking counts, and what follows it is content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from rkllama_protocol.messages import Job
from rkllama_protocol.templates import ThinkingTags, thinking_tags

from rkllama_worker.engine.parsing.arguments import Tools, tools_of
from rkllama_worker.engine.parsing.calls import Call, CallParser, Event
from rkllama_worker.engine.parsing.scanning import Found
from rkllama_worker.engine.parsing.syntax import Mark, marks_of, words_of
from rkllama_worker.engine.parsing.thinking import ThinkingParser

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Delta(NamedTuple):
    """What a piece of text adds to the answer."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[Call, ...] = ()

    def then(self, other: Delta) -> Delta:
        """This one and the next one."""
        return Delta(
            self.content + other.content,
            self.thinking + other.thinking,
            self.tool_calls + other.tool_calls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What may stand in an answer besides its text."""

    tags: ThinkingTags | None = None
    marks: tuple[Mark, ...] = ()
    tools: Tools

    @classmethod
    def of(cls, job: Job, template: str) -> Format:
        """Of a job whose prompt was rendered by this chat template; of one without, empty."""
        tools = tools_of(job.tools) if template else {}
        return cls(
            tags=thinking_tags(template) if job.think is not False else None,
            marks=marks_of(template) if tools else (),
            tools=tools,
        )

    @property
    def words(self) -> AbstractSet[str]:
        """Texts that the parser has to see, be they special tokens or not."""
        return words_of(self.marks) | set(self.tags or ())


class OutputParser:
    """The deltas of one answer; how the text was cut into pieces does not change their sum."""

    def __init__(
        self, form: Format, *, job_id: str, prompt: str = "", hidden: Collection[str] = ()
    ) -> None:
        """`prompt` is the rendered one.

        `hidden` words are special tokens, which nobody is to see; each comes in one piece.
        """
        self._hidden = tuple(hidden)
        self._thinking = ThinkingParser(form.tags, prompt=prompt) if form.tags else None
        self._calls: CallParser | None = None
        self._in_thinking = self._thinking is not None
        """Whether what comes out of `_calls` is thinking."""
        if form.tools:

            def shape(index: int, found: Found) -> Call:
                return call(job_id, index, found)

            self._calls = CallParser(form.marks, form.tools, shape=shape)
            self._calls.begin(bare=not self._in_thinking)

    def feed(self, text: str) -> Delta:
        """What `text` surely adds."""
        delta = self._fed(text)
        if self._thinking is not None and self._thinking.done:
            self._thinking = None
        return self._clean(delta) if self._hidden else delta

    def flush(self) -> Delta:
        """What was held back for something that did not come."""
        return self._clean(self._flushed())

    def _clean(self, delta: Delta) -> Delta:
        content, thinking = delta.content, delta.thinking
        for word in self._hidden:
            content, thinking = content.replace(word, ""), thinking.replace(word, "")
        return Delta(content, thinking, delta.tool_calls)

    def _fed(self, text: str) -> Delta:
        if self._thinking is None:
            if self._calls is None or self._calls.shows(text):
                return Delta(text)
            return self._delta(self._calls.feed(text))
        thinking, content = self._thinking.feed(text)
        if self._calls is None:
            return Delta(content, thinking)
        return self._delta(self._events(self._calls, thinking, content))

    def _flushed(self) -> Delta:
        thinking, content = self._thinking.flush() if self._thinking else ("", "")
        if self._calls is None:
            return Delta(content, thinking)
        first = self._delta(self._events(self._calls, thinking, content))
        return first.then(self._delta(self._calls.flush()))

    def _events(self, calls: CallParser, thinking: str, content: str) -> Iterator[Event]:
        """A generator, for the end of thinking changes what the events after it are."""
        if thinking:
            yield from calls.feed(thinking)
        if self._in_thinking and (content or (self._thinking and self._thinking.over)):
            # A call that is not whole here never will be: what looked like one was thought.
            yield from calls.flush()
            if self._in_thinking:
                self._in_thinking = False
                calls.begin(bare=True)
        if content:
            yield from calls.feed(content)

    def _delta(self, events: Iterable[Event]) -> Delta:
        content, thinking = "", ""
        found: list[Call] = []
        for event in events:
            if not isinstance(event, str):
                found.append(event)
                self._in_thinking = False
            elif self._in_thinking:
                thinking += event
            else:
                content += event
        return Delta(content, thinking, tuple(found))


def call(job_id: str, index: int, found: Found) -> Call:
    """A call as clients get it (contract 2.8); every attempt of the job gives it the same id."""
    number = int.from_bytes(sha256(f"{job_id} {index}".encode()).digest()[:8])
    letters = []
    for _ in range(8):
        number, digit = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[digit])
    function = {"index": index, "name": found.name, "arguments": found.arguments}
    return {"id": "call_" + "".join(letters), "function": function}
