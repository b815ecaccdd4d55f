r"""Ollama's grammar (contract 6.1): an instruction, a blank, and a value to the end of the line.

    # a comment, where an instruction could stand
    FROM qwen2.5:3b
    PARAMETER stop "<|im_end|>"
    SYSTEM \"\"\"as it is,
    over several lines\"\"\"

A quote that opens a value closes it only at the end of a line. There are no escapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rkllama_modelfile.modelfile import Message, Modelfile, ModelfileError

UNEXPECTED_END = "unexpected EOF"
INVALID_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)
INVALID_ROLE = 'message role must be one of "system", "user", or "assistant"'
NO_FROM = "no FROM line"

_COMMANDS = frozenset(re.findall(r'"(\w+)"', INVALID_COMMAND))
_ROLES = frozenset({"system", "user", "assistant"})
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_COMMAND = re.compile(r"([A-Za-z]*)([ \t]?)(.*)")
_PARAMETER = re.compile(r"[ \t]*([A-Za-z0-9_]*)(.*)")
_MESSAGE = re.compile(r"[ \t]*([A-Za-z]*)(.*)")
_BLANKS = " \t"


@dataclass
class _Found:
    """What has been read so far."""

    values: dict[str, list[str]] = field(default_factory=dict)
    parameters: list[tuple[str, str]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def all(self, command: str) -> tuple[str, ...]:
        return tuple(self.values.get(command, ()))

    def last(self, command: str) -> str:
        return self.values.get(command, [""])[-1]


class _Lines:
    """The lines of a text, with what cannot be printed left out; `number` counts from 1."""

    def __init__(self, text: str) -> None:
        self._lines = [
            ("".join(c for c in line if c.isprintable() or c == "\t"), end)
            for line, end in _LINE.findall(text)
        ]
        self.number = 0

    def next(self) -> tuple[str, str] | None:
        """The next line and what ends it; None after the last."""
        if self.number == len(self._lines):
            return None
        self.number += 1
        return self._lines[self.number - 1]


def parse_ollama(text: str) -> Modelfile:
    """What a Modelfile in Ollama's grammar says.

    Raises:
        ModelfileError: It is none; in Ollama's words, with the line where one is to blame.
    """
    lines = _Lines(text)
    found = _Found()
    while (line := lines.next()) is not None:
        if line[0].strip(_BLANKS) and not line[0].lstrip(_BLANKS).startswith("#"):
            _instruction(line, lines, found)
    if not found.last("from"):
        raise ModelfileError(NO_FROM)
    return Modelfile(
        sources=found.all("from"),
        adapters=found.all("adapter"),
        drafts=found.all("draft"),
        template=found.last("template"),
        system=found.last("system"),
        licenses=found.all("license"),
        parameters=tuple(found.parameters),
        messages=tuple(found.messages),
        renderer=found.last("renderer"),
        parser=found.last("parser"),
        requires=found.last("requires"),
    )


def _instruction(line: tuple[str, str], lines: _Lines, found: _Found) -> None:
    number = lines.number
    name, blank, rest = _groups(_COMMAND, line[0].lstrip(_BLANKS))
    if name and not blank and not rest and not line[1]:
        raise ModelfileError(UNEXPECTED_END)
    command = name.lower()
    if not blank or command not in _COMMANDS:
        raise ModelfileError(f"(line {number}): {INVALID_COMMAND}")
    match command:
        case "parameter":
            name, rest = _word(_PARAMETER, rest, line[1])
            found.parameters.append((name, _value(rest, line[1], lines)))
        case "message":
            role, rest = _word(_MESSAGE, rest, line[1])
            if role not in _ROLES:
                raise ModelfileError(f"(line {number}): {INVALID_ROLE}")
            found.messages.append(Message(role, _value(rest, line[1], lines)))
        case _:
            found.values.setdefault(command, []).append(_value(rest, line[1], lines))


def _word(pattern: re.Pattern[str], text: str, end: str) -> tuple[str, str]:
    """The word that stands before a value, and what follows it, which begins with a blank."""
    word, rest = _groups(pattern, text)
    if rest.startswith((" ", "\t")) and word:
        return word, rest
    pending = f": {word}" if word and (rest or end) else ""
    raise ModelfileError(UNEXPECTED_END + pending)


def _groups(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    # Every part of these patterns may be empty, so that they match any line.
    match = pattern.match(text)
    return match.groups() if match else ()


def _value(text: str, end: str, lines: _Lines) -> str:
    """The value that begins with `text`; a quote left open goes on over the next lines."""
    value = text.strip(_BLANKS)
    quote = next((mark for mark in ('"""', '"') if value.startswith(mark)), "")
    if not quote:
        return value
    if _closes(value, quote):
        return value[len(quote) : -len(quote)]
    pieces = [text.lstrip(_BLANKS).removeprefix(quote)]
    while (line := lines.next()) is not None:
        pieces.append(end)
        if line[0].rstrip(_BLANKS).endswith(quote):
            pieces.append(line[0].rstrip(_BLANKS).removesuffix(quote))
            return "".join(pieces)
        pieces.append(line[0])
        end = line[1]
    raise ModelfileError(UNEXPECTED_END)


def _closes(value: str, quote: str) -> bool:
    """Whether a value that begins with `quote` ends with another one."""
    return len(value) >= 2 * len(quote) and value.endswith(quote)
