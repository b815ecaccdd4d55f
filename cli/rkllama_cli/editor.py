"""The line that a person types on: editing, history, Tab, and messages of several lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import NestedCompleter
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle

from rkllama_cli.chat import unfinished
from rkllama_cli.slash import COMMANDS

PROMPT = ">>> "
_CONTINUED = "... "
_PLACEHOLDER = FormattedText([("fg:ansibrightblack", "Send a message (/? for help)")])
_GONE = FormattedText([])


class _History(FileHistory):
    """A file that only its owner reads, and that can be let alone."""

    def __init__(self, path: Path) -> None:
        self.kept = True
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        if not self.kept:
            return
        path = Path(os.fsdecode(self.filename))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            super().store_string(string)
        except OSError:
            # A read-only home is no reason not to talk.
            self.kept = False


class Editor:
    """Reads one message after the other."""

    def __init__(self, path: Path) -> None:
        self._history = _History(path)
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            history=self._history,
            # Enter is ours, so that pasted lines stay lines.
            multiline=True,
            prompt_continuation=_CONTINUED,
            key_bindings=_keys(),
            # What was left empty shall not look like a message afterwards.
            placeholder=lambda: _GONE if get_app().is_done else _PLACEHOLDER,
            completer=NestedCompleter.from_nested_dict(
                {command: dict.fromkeys(words) or None for command, words in COMMANDS.items()}
            ),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            enable_suspend=True,
        )

    @property
    def empty(self) -> bool:
        """Whether nothing was typed yet."""
        return not self._session.default_buffer.text

    def keep_history(self, *, kept: bool) -> None:
        """Whether what is typed is written to the file."""
        self._history.kept = kept

    def read(self) -> str:
        """The next message.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D on an empty line, or the terminal is gone.
        """
        return self._session.prompt()


def history_path(environ: Mapping[str, str]) -> Path:
    """Where the history is kept (XDG base directories)."""
    base = environ.get("XDG_STATE_HOME", "")
    folder = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return folder / "rkllama" / "history"


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if unfinished(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    return keys
