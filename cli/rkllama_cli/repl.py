"""The chat on a terminal: reads a line, has `chat.respond` decide, and does what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from rich.console import Console

from rkllama_cli import chat as chats
from rkllama_cli import images, tables
from rkllama_cli.api import Api, read
from rkllama_cli.asking import ask
from rkllama_cli.chat import Ask, Chat, Leave, Load, Save, Say, Show, Turn
from rkllama_cli.editor import PROMPT, Editor
from rkllama_cli.errors import CliError
from rkllama_cli.flow import printable
from rkllama_cli.screen import waiting
from rkllama_cli.slash import Topic
from rkllama_cli.wire import Facts

_NOTHING = {
    Topic.SYSTEM: "no system message",
    Topic.TEMPLATE: "no template",
    Topic.LICENSE: "no license",
    Topic.MODELFILE: "no Modelfile",
}


class Repl:
    """One conversation on a terminal."""

    def __init__(self, api: Api, chat: Chat, editor: Editor, *, out: Console, err: Console) -> None:
        self._api = api
        self._chat = chat
        self._editor = editor
        self._out = out
        self._err = err

    def run(self, facts: Facts) -> None:
        """Talk until the person leaves."""
        self._begin(self._chat, facts)
        going = True
        while going:
            try:
                going = self._turn()
            except KeyboardInterrupt:
                if self._editor.empty:
                    self._say("Use Ctrl-D or /bye to leave.")

    def _turn(self) -> bool:
        """Read a line and do what it asks for; whether the conversation goes on."""
        self._editor.keep_history(kept=self._chat.history)
        try:
            text = self._editor.read()
        except EOFError:
            return False
        return not text.strip() or self._answer(text)

    def _answer(self, text: str) -> bool:
        """Do it; whether the conversation goes on."""
        self._chat, action = chats.respond(self._chat, text)
        try:
            match action:
                case Leave():
                    return False
                case Say():
                    self._say(action.text)
                case Ask():
                    self._ask(action.prompt)
                case Show():
                    self._show(action.topic)
                case Save():
                    self._save(action.name)
                case Load():
                    self._load(action.name)
                case _:
                    assert_never(action)
        except CliError as error:
            self._say(f"Error: {printable(str(error))}")
        except KeyboardInterrupt:
            self._say("Stopped.")
        return True

    def _ask(self, prompt: str) -> None:
        # A question that is refused is as if it had not been asked.
        question = with_images(self._chat, prompt, self._say)
        answered, _ = ask(self._api, question, err=self._err)
        if len(answered.turns) > len(question.turns):
            self._chat = answered
        self._out.print()

    def _begin(self, chat: Chat, facts: Facts) -> None:
        """Load a model and show the conversation that it comes with."""
        with waiting(self._err, f"loading {chat.model}"):
            self._api.load(chat.model, **chats.loading(chat))
        given = tuple(Turn(role=m.role, content=m.content) for m in facts.messages)
        self._chat = replace(chat, given=given)
        for turn in given:
            mark = PROMPT if turn.role == "user" else ""
            self._say(f"{mark}{printable(turn.content)}")

    def _load(self, name: str) -> None:
        facts = read(self._api.show(name), Facts)
        self._begin(chats.switched(self._chat, name), facts)
        self._say(f"This is {name}.")

    def _save(self, name: str) -> None:
        for _ in self._api.create({"model": name, **chats.saving(self._chat)}):
            pass
        self._say(f"The conversation is kept as {name}.")

    def _show(self, topic: Topic) -> None:
        chat = self._chat
        # Of parameters, the model's and ours are shown apart.
        overlay = {} if topic is Topic.PARAMETERS else chats.overlay(chat)
        facts = read(self._api.show(chat.model, overlay=overlay), Facts)
        match topic:
            case Topic.INFO:
                tables.facts(facts, self._out, verbose=False)
                self._out.print()
            case Topic.PARAMETERS:
                self._say(_parameters(chat, facts))
            case _:
                text = printable(getattr(facts, topic.value)).strip()
                self._say(text or f"This model has {_NOTHING[topic]}.", copied=bool(text))

    def _say(self, text: str, *, copied: bool = False) -> None:
        """Print a text; one that is to be copied gets no newlines of ours."""
        self._out.print(text, markup=False, highlight=False, soft_wrap=copied)
        self._out.print()


def _parameters(chat: Chat, facts: Facts) -> str:
    lines = [f"  {line}" for line in tables.options(facts.parameters)]
    found = "Of the model:\n" + "\n".join(lines) if lines else "This model sets no parameters."
    if chat.parameters:
        mine = [f"  {name} {value}" for name, value in chat.parameters.items()]
        found += "\nOf this conversation:\n" + "\n".join(mine)
    return found


def with_images(chat: Chat, prompt: str, say: Callable[[str], None]) -> Chat:
    """The conversation with a question, and with the images that it names.

    Raises:
        CliError: An image cannot be read.
    """
    text, paths = images.find(prompt, exists=Path.is_file)
    for path in paths:
        say(f"Added image {path.name}")
    return chats.asked(chat, text, tuple(map(images.read, paths)))
