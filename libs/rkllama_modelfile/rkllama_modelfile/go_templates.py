"""Finds the Jinja chat template that does what a Go template would do.

Engines render Jinja, so that a Go template is never run. It is taken apart into its text and its
actions; the special tokens in the text name a well-known family, and the family's Jinja twin stands in
its place. One that is of no family, or says more than its family does, is translated if it is only of
turns (`go_translation`); else its words would be lost, and it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rkllama_modelfile import template_twins as twins
from rkllama_modelfile.go_translation import Piece, translated

_GO = re.compile(
    r"\{\{-?\s*(?:\.|\$|/\*|(?:if|range|with|define|block|template)\s|(?:end|else)\s*-?\}\}"
    # A function that is called: its arguments stand behind a blank.
    r"|[A-Za-z]\w*\s+(?:\.[A-Z]|[$\"`]))"
)
_STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`'
_ACTION = re.compile(r"\{\{((?:" + _STRING + r"|[^\"`}]|\}(?!\}))*)\}\}")
_COMMENT = re.compile(r"\{\{(?:-\s+)?/\*.*?\*/(?:\s+-)?\}\}", re.S)
_STRINGS = re.compile(_STRING)
_ESCAPED = re.compile(r"\\(.)", re.S)
_VERBS = re.compile(r"%[+#-]?[0-9]*[a-z]")
_OPENS = frozenset({"if", "range", "with", "block", "define"})
_OWN = re.compile(r"\.(?:Tools|ToolCalls|Suffix)\b|\"tool\"")
_ROLE = re.compile(r"[$\w.]*\.Role")
_ROLES = ("system", "user", "assistant", "tool")
_OPEN_TRIM = re.compile(r"\{\{-\s")
_CLOSE_TRIM = re.compile(r"\s-\}\}\Z")
_VALUE = "\x1f"
"""Stands for a value; it counts as white space."""
SHOWN_CHARS = 80


class TemplateError(ValueError):
    """The text is no template; in the words of Go's parser, which name the line."""


class UnknownTemplateError(TemplateError):
    """It is a Go template, of which no Jinja template is known that does the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A Go template, taken apart."""

    pieces: tuple[Piece, ...]
    text: str
    """What it writes, with a mark for every value but a role, which is "user"."""
    outside: str
    """The same without the parts for tools and for filling in the middle."""
    uses_tools: bool
    only_prompt: bool
    """There is nothing but the prompt and the response."""


@dataclass(slots=True)
class _Reading:
    text: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    blocks: list[bool] = field(default_factory=list)
    """Of each block that is open, whether it is for tools or for filling in."""
    special: int = 0
    """How many of those that is true of."""
    actions: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.text.append(text)
        if not self.special:
            self.outside.append(text)

    def open(self, *, special: bool) -> None:
        self.blocks.append(special)
        self.special += special

    def close(self) -> None:
        self.special -= self.blocks.pop()

    def act(self, action: str) -> None:
        self.actions.append(action)
        self.pieces.append(Piece(action, action=True))
        word = action.split(None, 1)[0] if action else ""
        if word in _OPENS:
            self.open(special=_is_special(action))
        elif word == "else" and self.blocks:
            self.close()
            self.open(special=_is_special(action))
        elif word == "end" and self.blocks:
            self.close()
        elif word in {"else", "end"}:
            raise TemplateError(f"template: :1: unexpected {{{{{word}}}}}")
        elif _ROLE.fullmatch(action):
            self.write("user")
        elif word.startswith(("$", "printf", '"', "`")):
            self.write(_VALUE + "".join(map(_meant, _STRINGS.findall(action))))
        else:
            self.write(_VALUE)


def _is_special(action: str) -> bool:
    # The turn for the system is opened by what a template says of tools, too.
    return _OWN.search(action) is not None and ".System" not in action


def _meant(literal: str) -> str:
    if literal.startswith("`"):
        return literal[1:-1]
    plain = _ESCAPED.sub(lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), literal[1:-1])
    return _VERBS.sub(" ", plain)


def is_go(text: str) -> bool:
    """Whether this is a Go template rather than a Jinja one."""
    return _GO.search(text) is not None or (
        "{%" not in text and text.rfind("{{") > text.rfind("}}")
    )


def twin(text: str) -> str:
    """The Jinja template that lays a conversation out as this Go template does.

    Raises:
        UnknownTemplateError: It is of no family that is known here, or says more than the family does.
        TemplateError: It is not well formed.
    """
    shape = _read(text)
    if shape.only_prompt:
        return twins.PLAIN
    try:
        return _twin(shape)
    except UnknownTemplateError:
        if (found := translated(shape.pieces)) is None:
            raise
        return found


def _twin(shape: _Shape) -> str:
    for family in _FAMILIES:
        if all(mark in shape.text for mark in family.marks):
            return _of(family, shape)
    known = ", ".join(dict.fromkeys(family.name for family in _FAMILIES))
    raise UnknownTemplateError(
        f"this Go template is of no family known here ({known}); give a Jinja template, as in the "
        "model's tokenizer_config.json"
    )


def _read(text: str) -> _Shape:
    reading = _Reading()
    at, trimmed = 0, False
    while (begin := text.find("{{", at)) >= 0:
        reading.write(text[at:begin])
        comment = _COMMENT.match(text, begin)
        action = comment or _ACTION.match(text, begin)
        if action is None:
            line = text.count("\n", 0, begin) + 1
            raise TemplateError(f"template: :{line}: unclosed action")
        before, trims = text[at:begin], _OPEN_TRIM.match(text, begin) is not None
        reading.pieces.append(Piece(_trimmed(before, left=trimmed, right=trims), action=False))
        if comment is None:
            reading.act(_inner(action[1]))
        at, trimmed = action.end(), _CLOSE_TRIM.search(action[0]) is not None
    reading.write(text[at:])
    reading.pieces.append(Piece(_trimmed(text[at:], left=trimmed, right=False), action=False))
    if reading.blocks:
        raise TemplateError("template: :1: unexpected EOF")
    written = "".join(reading.text)
    return _Shape(
        pieces=tuple(reading.pieces),
        text=written,
        outside="".join(reading.outside),
        uses_tools=any(".Tools" in action for action in reading.actions),
        only_prompt=not written.strip() and set(reading.actions) <= {".Prompt", ".Response"},
    )


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def _inner(action: str) -> str:
    """An action without the marks that trim the text around it."""
    if action.startswith("-") and action[1:2].isspace():
        action = action[1:]
    if action.endswith("-") and action[-2:-1].isspace():
        action = action[:-1]
    return action.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    name: str
    marks: tuple[str, ...]
    """Texts that this family's templates have, and those of the families after it do not."""
    words: tuple[str, ...]
    """All that they write."""
    choose: Callable[[_Shape], str | None]
    """The twin; None if the part for tools is of a form of its own."""


def _of(family: _Family, shape: _Shape) -> str:
    left = shape.outside
    for word in sorted((*family.words, *_ROLES), key=len, reverse=True):
        left = left.replace(word, " ")
    if left := " ".join(left.split()):
        raise UnknownTemplateError(
            f"this Go template of the family {family.name} has text of its own, which would be "
            f"lost: {left[:SHOWN_CHARS]!r}; give a Jinja template"
        )
    chosen = family.choose(shape)
    if chosen is None:
        raise UnknownTemplateError(
            f"this Go template of the family {family.name} describes tools in a form that is not "
            "known here; give a Jinja template"
        )
    return chosen


def _always(template: str) -> Callable[[_Shape], str | None]:
    return lambda shape: None if shape.uses_tools else template


def _chatml(shape: _Shape) -> str | None:
    if not shape.uses_tools:
        return twins.CHATML_THINKING if "</think>" in shape.text else twins.CHATML
    if "expert in composing functions" in shape.text:
        return twins.SMOLLM2
    if "may call one or more functions" in shape.text and "<function=" not in shape.text:
        return twins.QWEN3 if "</think>" in shape.text else twins.QWEN2_5
    return None


def _llama3(shape: _Shape) -> str | None:
    if _DATED in shape.outside:
        return twins.LLAMA3_2
    if not shape.uses_tools:
        return twins.LLAMA3
    return twins.LLAMA3_1 if "with a JSON for a function call" in shape.text else None


def _mistral(shape: _Shape) -> str | None:
    if not shape.uses_tools:
        return twins.MISTRAL_SPACED if f"{_VALUE} [/INST]" in shape.text else twins.MISTRAL
    return twins.MISTRAL_TOOLS if "[AVAILABLE_TOOLS]" in shape.text else None


def _deepseek(shape: _Shape) -> str | None:
    if shape.uses_tools:
        return None
    return twins.DEEPSEEK_R1 if "</think>" in shape.text else twins.DEEPSEEK


_DATED = "Cutting Knowledge Date: December 2023"
_IM = ("<|im_start|>", "<|im_end|>")
_THINKING = ("<think>", "</think>", "/think", "/no_think")
_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_TURNS = ("<start_of_turn>", "<end_of_turn>")
_DEEPSEEK = ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>")

_FAMILIES = (
    _Family(
        name="phi4",
        marks=("<|im_sep|>", *_IM),
        words=("<|im_sep|>", *_IM),
        choose=_always(twins.PHI4),
    ),
    _Family(name="chatml, qwen, smollm2", marks=_IM, words=(*_IM, *_THINKING), choose=_chatml),
    _Family(
        name="llama3",
        marks=_HEADERS,
        words=(*_HEADERS, "<|begin_of_text|>", "ipython", _DATED),
        choose=_llama3,
    ),
    _Family(
        name="llama2",
        marks=("[INST]", "[/INST]", "<<SYS>>"),
        words=("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>"),
        choose=_always(twins.LLAMA2),
    ),
    _Family(
        name="mistral",
        marks=("[INST]", "[/INST]"),
        words=("[INST]", "[/INST]", "<s>", "</s>"),
        choose=_mistral,
    ),
    _Family(
        name="gemma",
        marks=_TURNS,
        words=(*_TURNS, "<bos>", "model"),
        choose=_always(twins.GEMMA),
    ),
    _Family(
        name="deepseek",
        marks=_DEEPSEEK,
        words=(
            *_DEEPSEEK,
            *_THINKING,
            "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
            "<\uff5cend\u2581of\u2581sentence\uff5c>",
        ),
        choose=_deepseek,
    ),
    _Family(
        name="phi3",
        marks=("<|user|>", "<|end|>"),
        words=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        choose=_always(twins.PHI3),
    ),
    _Family(
        name="zephyr",
        marks=("<|user|>", "</s>"),
        words=("<|system|>", "<|user|>", "<|assistant|>", "</s>"),
        choose=_always(twins.ZEPHYR),
    ),
    _Family(
        name="alpaca",
        marks=("### Instruction:", "### Response:"),
        words=("### Instruction:", "### Response:"),
        choose=_always(twins.ALPACA),
    ),
    _Family(
        name="vicuna",
        marks=("USER:", "ASSISTANT:"),
        words=("USER:", "ASSISTANT:", "</s>"),
        choose=_always(twins.VICUNA),
    ),
)
"""The first whose marks are all there is the one."""
