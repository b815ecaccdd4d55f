"""Go types, as far as requests have them: how a decoded JSON value becomes one (contract 1.2).

    STRING BOOL INT FLOAT ANY RAW        what they are called in Go
    pointer                              the same, where null takes an earlier value away
    array mapping struct                 made of others; a struct is a table of JSON names
    decoding_itself parsed checked       types with an `UnmarshalJSON` of their own
    verbatim                             checked like a struct, kept like `any`

As in Go, the first value of a wrong type is remembered and told at the end, while a type that
decodes itself refuses at once.

Each knows the JSON Schema of what it takes, a struct's under its name, for the document that
describes the API (`openapi`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rkllama_gateway.dialects.goscan import MAX_DEPTH

LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_EXACT = 2**53


class Number(str):
    """A number as it stood in the text: Go judges it by the type that it is to become."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object with its members in order, duplicates included."""

    __slots__ = ()


class RefusalError(Exception):
    """A type that decodes itself refused the value."""


@dataclass(slots=True, kw_only=True)
class Trail:
    """Where in the document decoding stands, and the first thing that was wrong."""

    struct: str = ""
    path: list[str] = field(default_factory=list)
    wrong: str = ""
    named_by_caller: bool = False
    """Inside a type that decodes itself: Go names the struct around it in errors."""

    def mismatch(self, value: str, go: str) -> None:
        """Remember that `value` (`number`, `string`, ...) does not fit the Go type `go`."""
        place = f"Go struct field {self.struct}.{'.'.join(self.path)}" if self.path else "Go value"
        self.fail(f"json: cannot unmarshal {value} into {place} of type {go}")

    def fail(self, text: str) -> None:
        """Remember `text`, unless something was wrong before."""
        self.wrong = self.wrong or text


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A Go type: its name in errors, and how a value that is not null becomes one."""

    go: str
    take: Callable[[Any, Trail], Any]
    zero: Callable[[], Any]
    """What null is as an element of a list."""
    forgets: bool = True
    """Whether null after a value takes that value away; in Go it does where nil can be stored."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of what it takes; null, which is the same as nothing, is not told."""


def struct(go: str, fields: Mapping[str, Kind], *, package: str = "api") -> Kind:
    """A struct of Ollama's; field names are lower case and match in any case."""
    full = f"{package}.{go}"

    def take(value: Any, trail: Trail) -> dict[str, Any] | None:
        if not isinstance(value, Pairs):
            trail.mismatch(_kind_of(value), full)
            return None
        outer = trail.struct
        if not trail.named_by_caller:
            trail.struct = go
        taken: dict[str, Any] = {}
        for key, member in value:
            name = key if key in fields else _fold(key)
            kind = fields.get(name)
            if kind is None:
                continue
            if member is None:
                if kind.forgets:
                    taken.pop(name, None)
                continue
            trail.path.append(name)
            taken[name] = kind.take(member, trail)
            trail.path.pop()
        trail.struct = outer
        return taken

    schema = {
        "title": go if package == "api" else full,
        "type": "object",
        "properties": {name: kind.schema for name, kind in fields.items()},
    }
    return Kind(go=full, take=take, zero=dict, forgets=False, schema=schema)


def pointer(kind: Kind) -> Kind:
    """A pointer to it."""
    return replace(kind, forgets=True)


def decoding_itself(kind: Kind, *, go: str) -> Kind:
    """A struct with an `UnmarshalJSON` of its own: what is wrong inside stops the decoding."""

    def take(value: Any, trail: Trail) -> Any:
        inner = Trail(struct=trail.struct, path=list(trail.path), named_by_caller=True)
        if not isinstance(value, Pairs):
            inner.mismatch(_kind_of(value), go)
        taken = kind.take(value, inner)
        if inner.wrong:
            raise RefusalError(inner.wrong)
        return taken

    return Kind(go=kind.go, take=take, zero=kind.zero, forgets=False, schema=kind.schema)


def parsed(
    function: Callable[[Any], Any], *, schema: Mapping[str, Any], of: Kind | None = None
) -> Kind:
    """A type that decodes itself, from what `of` makes of the value (`ANY`, unless it says else).

    `function` may raise ValueError with Go's text; `schema` says what it does not refuse.
    """

    def take(value: Any, trail: Trail) -> Any:
        inner = Trail(struct=trail.struct, path=trail.path)
        plain = (of or ANY).take(value, inner)
        if inner.wrong:
            raise RefusalError(inner.wrong)
        try:
            return function(plain)
        except ValueError as error:
            raise RefusalError(str(error)) from None

    return Kind(go="", take=take, zero=lambda: None, schema=schema)


def checked(function: Callable[[str], str | None], *, go: str, schema: Mapping[str, Any]) -> Kind:
    """A string that must satisfy `function`, which gives Go's text about it or None."""

    def take(value: Any, trail: Trail) -> str:
        text = _clean(value) if _is_text(value) else ""
        if not _is_text(value):
            trail.mismatch(_kind_of(value), go)
        elif complaint := function(text):
            trail.fail(complaint)
        return text

    return Kind(go=go, take=take, zero=str, schema=schema)


def array(of: Kind, *, go: str = "") -> Kind:
    """A slice; Go's name for it is `[]<element>` unless `go` says otherwise."""
    name = go or f"[]{of.go}"

    def take(value: Any, trail: Trail) -> list[Any]:
        if isinstance(value, Pairs) or not isinstance(value, list):
            trail.mismatch(_kind_of(value), name)
            return []
        return [of.zero() if item is None else of.take(item, trail) for item in value]

    schema = {"type": "array", "items": of.schema}
    return Kind(go=name, take=take, zero=list, schema=schema)


def mapping(of: Kind) -> Kind:
    """A map from strings."""
    name = f"map[string]{of.go}"

    def take(value: Any, trail: Trail) -> dict[str, Any]:
        if not isinstance(value, Pairs):
            trail.mismatch(_kind_of(value), name)
            return {}
        return {
            _clean(key): of.zero() if item is None else of.take(item, trail) for key, item in value
        }

    schema = {"type": "object", "additionalProperties": of.schema}
    return Kind(go=name, take=take, zero=dict, schema=schema)


def verbatim(kind: Kind) -> Kind:
    """Checked against `kind`, but taken as it came, with the members that `kind` does not know."""

    def take(value: Any, trail: Trail) -> Any:
        kind.take(value, trail)
        return ANY.take(value, trail)

    return Kind(go=kind.go, take=take, zero=kind.zero, schema=kind.schema)


def _take_raw(value: Any, _: Trail) -> Any:
    return _take_any(value, Trail())


def _take_text(value: Any, trail: Trail) -> str:
    if _is_text(value):
        return _clean(value)
    trail.mismatch(_kind_of(value), "string")
    return ""


def _take_flag(value: Any, trail: Trail) -> bool:
    if isinstance(value, bool):
        return value
    trail.mismatch(_kind_of(value), "bool")
    return False


def _take_integer(value: Any, trail: Trail) -> int:
    if not isinstance(value, Number):
        trail.mismatch(_kind_of(value), "int")
    elif _INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63:
        return int(value)
    else:
        trail.mismatch(f"number {value}", "int")
    return 0


def _take_float(value: Any, trail: Trail) -> float:
    if isinstance(value, Number):
        if not math.isinf(number := float(value)):
            return number
        trail.mismatch(f"number {value}", "float64")
    else:
        trail.mismatch(_kind_of(value), "float64")
    return 0.0


def _take_any(value: Any, trail: Trail, depth: int = 0) -> Any:
    if isinstance(value, Number):
        return _number(value, trail)
    if isinstance(value, str):
        return _clean(value)
    if not isinstance(value, list):
        return value
    if depth == MAX_DEPTH:
        opening = "{" if isinstance(value, Pairs) else "["
        raise RefusalError(f"invalid character '{opening}' exceeded max depth")
    if isinstance(value, Pairs):
        return {_clean(key): _take_any(item, trail, depth + 1) for key, item in value}
    return [_take_any(item, trail, depth + 1) for item in value]


def _number(text: str, trail: Trail) -> float:
    """A float64, shown as an integer where it is one: that is how Go would print it again."""
    number = float(text)
    if math.isinf(number):
        trail.mismatch(f"number {text}", "float64")
        return 0.0
    return int(number) if abs(number) <= _EXACT and number.is_integer() else number


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}

STRING = Kind(go="string", take=_take_text, zero=str, forgets=False, schema=_TEXT)
BOOL = Kind(go="bool", take=_take_flag, zero=bool, forgets=False, schema=_FLAG)
BOOL_POINTER = Kind(go="bool", take=_take_flag, zero=bool, schema=_FLAG)
INT = Kind(go="int", take=_take_integer, zero=int, forgets=False, schema={"type": "integer"})
FLOAT = Kind(go="float64", take=_take_float, zero=float, forgets=False, schema={"type": "number"})
ANY = Kind(go="interface {}", take=_take_any, zero=lambda: None)
RAW = Kind(go="json.RawMessage", take=_take_raw, zero=lambda: None)
"""Kept for somebody else to judge: no value in it is wrong here."""


def _clean(text: str) -> str:
    r"""The same without halves of surrogate pairs, which `\ud800` leaves and no encoder takes."""
    return text if text.isascii() else LONE_SURROGATE.sub("\ufffd", text)


def _fold(name: str) -> str:
    """Go compares names by Unicode's simple folding, where a long s is an s."""
    return name.lower().replace("\u017f", "s")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _kind_of(value: Any) -> str:
    match value:
        case Pairs():
            return "object"
        case list():
            return "array"
        case bool():
            return "bool"
        case Number():
            return "number"
        case _:
            return "string"
