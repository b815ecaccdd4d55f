"""A conversation as a state machine: a line that was typed, and what it changes or asks for. Pure.

    line --> respond(chat, line) --> (chat, action) --> the terminal does it

What begins with `/` is a command, everything else is for the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rkllama_modelfile import ModelfileError, typed_parameters

from rkllama_cli.slash import HELP, HELP_SET, HELP_SHOW, USAGE_PARAMETER, Topic
from rkllama_cli.wire import Json

QUOTE = '"""'
_WORDS = re.compile(r'"[^"]+"|\S+')
THINK_LEVELS = ("high", "medium", "low", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of the conversation."""

    role: str
    content: str
    images: tuple[str, ...] = ()
    """In base64."""
    thinking: str = ""

    def to_json(self) -> Json:
        """As `/api/chat` and `/api/create` want it."""
        found: Json = {"role": self.role, "content": self.content}
        if self.images:
            found["images"] = list(self.images)
        if self.thinking:
            found["thinking"] = self.thinking
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Everything that the next request depends on, and how its answer is shown."""

    model: str
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    given: tuple[Turn, ...] = ()
    """What the model comes with: the server puts it before the turns of every request."""
    format: str | Json = ""
    think: bool | str | None = None
    keep_alive: str | float | None = None
    verbose: bool = False
    wrap: bool = True
    history: bool = True
    hide_thinking: bool = False


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the person something."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Show:
    """Show something of the model."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Save:
    """Keep the conversation as a model."""

    name: str


@dataclass(frozen=True, slots=True)
class Load:
    """Talk to another model."""

    name: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Say goodbye."""


Action = Say | Ask | Show | Save | Load | Leave
Answer = tuple[Chat, Action]


def unfinished(text: str) -> bool:
    """Whether a message of several lines has begun and not ended."""
    return text.count(QUOTE) % 2 == 1 and (text.lstrip().startswith((QUOTE, "/set system")))


def request(chat: Chat) -> Json:
    """The body of a `POST /api/chat` for the conversation as it is."""
    told = [Turn(role="system", content=chat.system)] if chat.system else []
    body: Json = {
        "model": chat.model,
        "messages": [turn.to_json() for turn in (*told, *chat.turns)],
    }
    return body | _settings(chat)


def loading(chat: Chat) -> Json:
    """What a load has to know, so that the first answer needs no other, and is not refused for its thinking."""
    settings = _settings(chat)
    return {key: settings[key] for key in ("options", "keep_alive", "think") if key in settings}


def saving(chat: Chat) -> Json:
    """The body of a `POST /api/create` but for the name."""
    body: Json = {"from": chat.model}
    if chat.system:
        body["system"] = chat.system
    if chat.parameters:
        body["parameters"] = dict(chat.parameters)
    if chat.turns:
        # They replace those of the model.
        body["messages"] = [turn.to_json() for turn in (*chat.given, *chat.turns)]
    return body


def overlay(chat: Chat) -> Json:
    """What is laid over the model's own facts."""
    found: Json = {"system": chat.system, "options": dict(chat.parameters)}
    return {key: said for key, said in found.items() if said}


def _settings(chat: Chat) -> Json:
    body: Json = {}
    if chat.parameters:
        body["options"] = dict(chat.parameters)
    if chat.format:
        body["format"] = chat.format
    if chat.think is not None:
        body["think"] = chat.think
    if chat.keep_alive is not None:
        body["keep_alive"] = chat.keep_alive
    return body


def asked(chat: Chat, prompt: str, images: tuple[str, ...] = ()) -> Chat:
    """The conversation with a question."""
    return replace(chat, turns=(*chat.turns, Turn(role="user", content=prompt, images=images)))


def answered(chat: Chat, content: str, thinking: str = "") -> Chat:
    """The conversation with an answer, which may be one that was stopped."""
    turn = Turn(role="assistant", content=content, thinking=thinking)
    return replace(chat, turns=(*chat.turns, turn))


def switched(chat: Chat, model: str) -> Chat:
    """Another model; what was told to the last one is not its own."""
    return replace(chat, model=model, system="", parameters={}, turns=(), given=(), think=None)


def respond(chat: Chat, text: str) -> Answer:
    """What a line that was typed does."""
    line = text.strip()
    if not line.startswith("/") or _is_path(line):
        return chat, Ask(unquoted(text))
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if (answer := _COMMANDS.get(command)) is None:
        return chat, Say(f"There is no command {command}. Type /? for help.")
    return answer(chat, rest)


def unquoted(text: str) -> str:
    """A message without the quotes that hold several lines together."""
    text = text.strip()
    if len(text) >= 2 * len(QUOTE) and text.startswith(QUOTE) and text.endswith(QUOTE):
        return text[len(QUOTE) : -len(QUOTE)].strip("\n")
    return text


def _is_path(line: str) -> bool:
    """A file that was dropped on the terminal looks like a command."""
    first = line.split(maxsplit=1)[0]
    return "/" in first[1:] or "." in first


def _help(chat: Chat, rest: str) -> Answer:
    topics = {"set": HELP_SET, "show": HELP_SHOW}
    return chat, Say(topics.get(rest.removeprefix("/"), HELP))


def _bye(chat: Chat, _: str) -> Answer:
    return chat, Leave()


def _clear(chat: Chat, _: str) -> Answer:
    return replace(chat, turns=()), Say("The conversation is forgotten.")


def _show(chat: Chat, rest: str) -> Answer:
    if rest not in tuple(Topic):
        return chat, Say(HELP_SHOW)
    return chat, Show(Topic(rest))


def _named(make: Callable[[str], Action], usage: str) -> Callable[[Chat, str], Answer]:
    def answer(chat: Chat, rest: str) -> Answer:
        if not rest or " " in rest:
            return chat, Say(usage)
        return chat, make(rest)

    return answer


def _set(chat: Chat, rest: str) -> Answer:
    what, _, value = rest.partition(" ")
    value = value.strip()
    match what:
        case "parameter":
            return _set_parameter(chat, value)
        case "system" if value:
            return replace(chat, system=unquoted(_bare(value))), Say("The system message is set.")
        case "think" if not value or value in THINK_LEVELS:
            return replace(chat, think=value or True), Say("Thinking is on.")
        case "format" if value:
            return _set_format(chat, value)
    if value or what not in _SWITCHES:
        return chat, Say(HELP_SET)
    changes, said = _SWITCHES[what]
    return replace(chat, **changes), Say(said)


def _set_parameter(chat: Chat, rest: str) -> Answer:
    name, _, value = rest.partition(" ")
    values = _WORDS.findall(value) if name == "stop" else [value.strip()]
    if not name or not values or not all(values):
        return chat, Say(USAGE_PARAMETER)
    try:
        typed = typed_parameters([(name, _bare(one)) for one in values])
    except ModelfileError as error:
        return chat, Say(f"{error}"[:1].upper() + f"{error}."[1:])
    if not typed:
        return chat, Say(f"{name} is no longer used and was left out.")
    shown = " ".join(json.dumps(one) for one in typed[name]) if name == "stop" else value.strip()
    return replace(chat, parameters={**chat.parameters, **typed}), Say(f"{name} is {shown}.")


def _set_format(chat: Chat, value: str) -> Answer:
    try:
        return replace(chat, format=parsed_format(value)), Say("Answers are JSON.")
    except ValueError as error:
        return chat, Say(str(error))


def parsed_format(text: str) -> str | Json:
    """`json`, or a JSON schema.

    Raises:
        ValueError: It is neither.
    """
    if text in ("", "json"):
        return text
    try:
        schema = json.loads(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise ValueError("A format is json, or a JSON schema in one line.")  # noqa: TRY004
    return schema


def _bare(text: str) -> str:
    """A value without the quotes around it; three of them are for `unquoted`."""
    if len(text) > 1 and text[0] == text[-1] == '"' and not text.startswith(QUOTE):
        return text[1:-1]
    return text


_SWITCHES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "nothink": ({"think": False}, "Thinking is off."),
    "noformat": ({"format": ""}, "Answers have any form."),
    "verbose": ({"verbose": True}, "Timings are shown after each answer."),
    "quiet": ({"verbose": False}, "Timings are not shown."),
    "history": ({"history": True}, "What you type is kept for next time."),
    "nohistory": ({"history": False}, "What you type is not kept."),
    "wordwrap": ({"wrap": True}, "Lines are broken between words."),
    "nowordwrap": ({"wrap": False}, "Lines are broken at the edge."),
}

_COMMANDS: Mapping[str, Callable[[Chat, str], Answer]] = {
    "/set": _set,
    "/show": _show,
    "/save": _named(Save, "Use /save NAME"),
    "/load": _named(Load, "Use /load NAME"),
    "/clear": _clear,
    "/bye": _bye,
    "/exit": _bye,
    "/?": _help,
    "/help": _help,
}
