"""Named keys: what a client sends, what is kept of it, and what it allows.

    rk-<43 characters of base64url>     the key: 32 random bytes, shown once and kept nowhere
    SHA-256 of that text                what is kept

Nobody can guess 256 random bits, so that a plain hash is enough at rest: a slow one with a salt
protects what people choose. A hash is compared in constant time all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

PREFIX = "rk-"
HINT_LENGTH = 4
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names are shown in logs and as labels of metrics, so that they are short and plain."""


class Auth(StrEnum):
    """For what a client needs a key."""

    OFF = "off"
    ADMIN = "admin"
    ALL = "all"


class Scope(StrEnum):
    """What a key allows."""

    INFER = "infer"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """Whether a key of this scope may do what needs a key of scope `needed`."""
        return self is Scope.ADMIN or needed is Scope.INFER


class Key(BaseModel):
    """One key, without its text."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=NAME)
    scope: Scope
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    """Of the whole text of the key, in hex."""
    created: AwareDatetime
    hint: str = Field(max_length=HINT_LENGTH)
    """The last characters of the text, by which a person tells keys apart."""


class Keys(BaseModel):
    """All keys of one installation, as they are kept."""

    # Somebody may have put a key where its hash belongs: that is told, but not shown.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = [name for name, times in Counter(k.name for k in self.keys).items() if times > 1]
        if twice:
            raise ValueError(f"two keys are named {twice[0]!r}")
        return self

    def find(self, text: bytes) -> Key | None:
        """The key with this text. Takes as long for a wrong one as for a right one."""
        sent = hashlib.sha256(text).hexdigest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, sent):
                found = key
        return found

    def named(self, name: str) -> Key | None:
        """The key of this name."""
        return next((key for key in self.keys if key.name == name), None)

    def having(self, key: Key) -> Keys:
        """These and `key`, whose name is new."""
        return Keys(keys=(*self.keys, key))

    def without(self, name: str) -> Keys:
        """These but the key of that name."""
        return Keys(keys=tuple(key for key in self.keys if key.name != name))


def new_key(name: str, scope: Scope, *, now: datetime) -> tuple[Key, str]:
    """A new random key and its text, which can be had nowhere else afterwards."""
    text = PREFIX + secrets.token_urlsafe(32)
    key = Key(
        name=name,
        scope=scope,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        created=now,
        hint=text[-HINT_LENGTH:],
    )
    return key, text
