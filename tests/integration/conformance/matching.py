"""What a value may be: plain values stand for themselves, the classes here for what may differ.

    {"done": True, "created_at": UTC}         exactly these two
    Partial({"name": "m:latest"})             and whatever else
    {"a": 1, "b": Maybe(INT)}                 `b` may be missing
    [1, 2], Each(FLOAT, least=1), Has(1)      this list, any list of floats, a list with a 1 in it
    Match(r"call_[a-z0-9]{8}")                a text of this form, whole

`mismatch` says in words what is wrong. JSON's types are kept apart: 1 is not 1.0 and not true.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import datetime
from typing import Any

_MOST_SHOWN = 300


class Matcher(ABC):
    """What may differ."""

    @abstractmethod
    def complaint(self, actual: Any, where: str) -> str:
        """What is wrong with `actual`; empty if nothing is."""


@dataclass(frozen=True)
class Is(Matcher):
    """A value that passes `test`; `what` names such values."""

    what: str
    test: Callable[[Any], bool]

    def complaint(self, actual: Any, where: str) -> str:
        """Say that it does not pass."""
        return "" if self.test(actual) else f"{where} is {_shown(actual)}, not {self.what}"


@dataclass(frozen=True)
class Match(Matcher):
    """A text that the pattern fits from its first character to its last."""

    pattern: str

    def complaint(self, actual: Any, where: str) -> str:
        """Say that it does not fit."""
        fits = isinstance(actual, str) and re.fullmatch(self.pattern, actual, re.DOTALL)
        return "" if fits else f"{where} is {_shown(actual)}, not like {self.pattern!r}"


@dataclass(frozen=True)
class Partial(Matcher):
    """An object with at least these members."""

    members: Mapping[str, Any]

    def complaint(self, actual: Any, where: str) -> str:
        """Say which is not there, or not so."""
        return _object(self.members, actual, where, closed=False)


@dataclass(frozen=True)
class Maybe(Matcher):
    """As a member of an object: not there, or `value`."""

    value: Any

    def complaint(self, actual: Any, where: str) -> str:
        """Judge it where it is there."""
        return mismatch(self.value, actual, where)


@dataclass(frozen=True)
class Each(Matcher):
    """A list of such values, with at least and at most so many."""

    value: Any
    least: int = 0
    most: int | None = None

    def complaint(self, actual: Any, where: str) -> str:
        """Say which is not such a value."""
        if not isinstance(actual, list):
            return f"{where} is {_shown(actual)}, not a list"
        if len(actual) < self.least or (self.most is not None and len(actual) > self.most):
            return f"{where} has {len(actual)} items, not {self.least} to {self.most}"
        found = (mismatch(self.value, item, f"{where}[{at}]") for at, item in enumerate(actual))
        return next(filter(None, found), "")


@dataclass(frozen=True)
class Has(Matcher):
    """A list with each of these values somewhere in it."""

    values: tuple[Any, ...]

    def complaint(self, actual: Any, where: str) -> str:
        """Say which is nowhere."""
        if not isinstance(actual, list):
            return f"{where} is {_shown(actual)}, not a list"
        for value in self.values:
            if all(mismatch(value, item, where) for item in actual):
                return f"{where} has nothing like {value!r}: {_shown(actual)}"
        return ""


@dataclass(frozen=True)
class Lacks(Matcher):
    """A list without such a value."""

    value: Any

    def complaint(self, actual: Any, where: str) -> str:
        """Say that there is one."""
        if not isinstance(actual, list):
            return f"{where} is {_shown(actual)}, not a list"
        hit = any(not mismatch(self.value, item, where) for item in actual)
        return f"{where} has {self.value!r}" if hit else ""


@dataclass(frozen=True)
class All(Matcher):
    """A value that is all of these."""

    values: tuple[Any, ...]

    def complaint(self, actual: Any, where: str) -> str:
        """Say which it is not."""
        return next(filter(None, (mismatch(value, actual, where) for value in self.values)), "")


@dataclass(frozen=True)
class OneOf(Matcher):
    """Any of these values."""

    values: tuple[Any, ...]

    def complaint(self, actual: Any, where: str) -> str:
        """Say that it is none of them."""
        found = [mismatch(value, actual, where) for value in self.values]
        return "" if "" in found else f"{where}: {' / '.join(found)}"


class Absent(Matcher):
    """As a member of an object, or a header: not there."""

    def complaint(self, actual: Any, where: str) -> str:
        """Say that it is there."""
        return f"{where} is there: {_shown(actual)}"


def has(*values: Any) -> Has:
    """`Has`, with its values in a row."""
    return Has(values)


def one_of(*values: Any) -> OneOf:
    """`OneOf`, with its values in a row."""
    return OneOf(values)


def both(*values: Any) -> All:
    """`All`, with its values in a row."""
    return All(values)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_int(value)


ABSENT = Absent()
ANY = Is("anything", lambda _: True)
INT = Is("an integer", _is_int)
COUNT = Is("an integer above zero", lambda value: _is_int(value) and value > 0)
NS = Is("nanoseconds, an integer above zero", lambda value: _is_int(value) and value > 0)
NUMBER = Is("a number", _is_number)
TEXT = Is("a text with something in it", lambda value: isinstance(value, str) and value != "")
HEX64 = Match(r"[0-9a-f]{64}")
DIGEST = Match(r"sha256:[0-9a-f]{64}")
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
UTC = Match(_TIME + r"(\.\d{0,8}[1-9])?Z")
"""RFC 3339, no more than nine digits of a fraction, none of them a trailing zero (contract 1.4)."""
LOCAL = Match(_TIME + r"(\.\d{1,9})?[+-]\d\d:\d\d")
"""RFC 3339 with an offset, never `Z`."""


def mismatch(expected: Any, actual: Any, where: str = "body") -> str:
    """What is wrong with `actual`, in words; empty if nothing is."""
    match expected:
        case Matcher():
            return expected.complaint(actual, where)
        case Mapping():
            return _object(expected, actual, where, closed=True)
        case str() | bytes():
            pass
        case Sequence():
            return _list(expected, actual, where)
    if type(expected) is not type(actual) or expected != actual:
        return f"{where} is {_shown(actual)}, not {_shown(expected)}"
    return ""


def _object(expected: Mapping[str, Any], actual: Any, where: str, *, closed: bool) -> str:
    if not isinstance(actual, dict):
        return f"{where} is {_shown(actual)}, not an object"
    if closed and (extra := actual.keys() - expected.keys()):
        return f"{where} has {sorted(extra)} besides: {_shown(actual)}"
    for name, value in expected.items():
        if name not in actual:
            if value is ABSENT or isinstance(value, Maybe):
                continue
            return f"{where} has no {name!r}: {_shown(actual)}"
        if found := mismatch(value, actual[name], f"{where}.{name}"):
            return found
    return ""


def _list(expected: Sequence[Any], actual: Any, where: str) -> str:
    if not isinstance(actual, list):
        return f"{where} is {_shown(actual)}, not a list"
    if len(actual) != len(expected):
        return f"{where} has {len(actual)} items, not {len(expected)}: {_shown(actual)}"
    pairs = enumerate(zip(expected, actual, strict=True))
    found = (mismatch(wanted, item, f"{where}[{at}]") for at, (wanted, item) in pairs)
    return next(filter(None, found), "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


@dataclass(frozen=True)
class Around(Matcher):
    """A list of numbers close to these, as float32 can hold them."""

    values: tuple[float, ...]

    def complaint(self, actual: Any, where: str) -> str:
        """Say which differs."""
        if not isinstance(actual, list) or len(actual) != len(self.values):
            return f"{where} is {_shown(actual)}, not {len(self.values)} numbers"
        pairs = zip(self.values, actual, strict=True)
        close = all(_is_number(got) and abs(got - wanted) < 1e-5 for wanted, got in pairs)
        return "" if close else f"{where} is {_shown(actual)}, not about {self.values}"


@dataclass(frozen=True)
class In(Matcher):
    """A local time so many seconds from now, give or take `slack_s`."""

    seconds: float
    slack_s: float = 30.0

    def complaint(self, actual: Any, where: str) -> str:
        """Say how far it is."""
        if found := mismatch(LOCAL, actual, where):
            return found
        # Python reads microseconds; a time of Go may have nanoseconds.
        left = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", actual)) - datetime.now(
            UTC_ZONE
        )
        off = abs(left.total_seconds() - self.seconds) > self.slack_s
        return f"{where} is {left.total_seconds():.1f} s ahead, not {self.seconds:g}" if off else ""


@dataclass(frozen=True)
class Ends(Matcher):
    """A list with such values at its end, and as many others before as there are."""

    values: tuple[Any, ...]
    before: Any = Is("anything", lambda _: True)

    def complaint(self, actual: Any, where: str) -> str:
        """Say what is at the end instead."""
        if not isinstance(actual, list) or len(actual) < len(self.values):
            return f"{where} is {_shown(actual)}, too short"
        at = len(actual) - len(self.values)
        first = mismatch(Each(self.before), actual[:at], where)
        return first or mismatch(list(self.values), actual[at:], f"{where}, its end,")
