"""The file that keys are kept in: the command line writes it, the gateway reads it.

It is replaced as a whole, so that a reader sees the old keys or the new ones, and changed under a
lock beside it, so that of two writers none undoes what the other did. Mode 0600: the hashes are no
secret, but who can write to the file can give himself a key.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from rkllama_service import private_file
from rkllama_service.keys import NAME, Keys, Scope, new_key

FIRST_NAME = "admin"


class KeyFileError(Exception):
    """The keys cannot be read or changed; the text is one sentence for a person."""


def load(path: Path) -> Keys | None:
    """The keys in the file; None: there is no such file.

    Raises:
        KeyFileError: It cannot be read, or is no file of keys.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"cannot read the keys in {path}: {error.strerror}") from error
    try:
        return Keys.model_validate_json(text)
    except ValidationError as error:
        # What is in the file stays out of the sentence.
        reason = error.errors(include_input=False)[0]["msg"]
        raise KeyFileError(f"{path} is no file of keys: {reason}") from error


def create(path: Path, name: str, scope: Scope, *, now: datetime) -> str:
    """Add a key; its text, which is kept nowhere.

    Raises:
        KeyFileError: The name does not fit or is taken, or the file cannot be changed.
    """
    if re.fullmatch(NAME, name) is None:
        raise KeyFileError(
            f"{name!r} is no name of a key; use at most 64 letters, digits, dots and dashes"
        )
    with _changing(path):
        keys = load(path) or Keys()
        if keys.named(name) is not None:
            raise KeyFileError(f"there is a key named '{name}' already")
        key, text = new_key(name, scope, now=now)
        _write(path, keys.having(key))
    return text


def create_first(path: Path, *, now: datetime) -> str | None:
    """An `admin` key, if there is no file yet; its text.

    Where every key was revoked there is a file, and no new key is made.

    Raises:
        KeyFileError: As `create`.
    """
    with _changing(path):
        if load(path) is not None:
            return None
        key, text = new_key(FIRST_NAME, Scope.ADMIN, now=now)
        _write(path, Keys(keys=(key,)))
    return text


def revoke(path: Path, name: str) -> None:
    """Delete a key.

    Raises:
        KeyFileError: There is none of that name, or the file cannot be changed.
    """
    with _changing(path):
        keys = load(path) or Keys()
        if keys.named(name) is None:
            raise KeyFileError(f"there is no key named '{name}'")
        _write(path, keys.without(name))


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Nobody else changes the file inside this context."""
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            private_file.give_to_owner_of(path.parent, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise KeyFileError(f"cannot change the keys in {path}: {error.strerror}") from error


def _write(path: Path, keys: Keys) -> None:
    private_file.replace(path, keys.model_dump_json(indent=2).encode() + b"\n")
