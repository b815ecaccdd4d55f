"""Durations as Go writes them, and what Ollama makes of `keep_alive` (contract 1.7).

number        seconds, fractions allowed; below zero: for ever
string        `1h30m`, `1.5h`, `-1m`; below zero: for ever; units ns us ms s m h
other         refused
"""

from __future__ import annotations

import re
from typing import Any

from rkllama_gateway.dialects.gotext import quote

FOREVER_S = -1.0
"""How "for ever" is said in `Job.keep_alive_s`."""

_LONGEST = 2**63
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_STEP = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_MOST_DIGITS = 19
"""No more than these fit an int64; the rest of a fraction is below a nanosecond."""


class DurationError(ValueError):
    """Go's sentence for a text that is no duration."""


def parse_duration(text: str) -> int:
    """Nanoseconds, as `time.ParseDuration` counts them.

    Raises:
        DurationError: With Go's text, such as `time: missing unit in duration "5"`.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = 0
    start = 0
    while start < len(rest) or not rest:
        step = _STEP.match(rest, start)
        whole, fraction, unit = step.groups() if step else ("", None, "")
        digits = whole.lstrip("0")
        too_long = len(digits) > _MOST_DIGITS or int(digits or "0") > _LONGEST
        if too_long or not (whole or fraction):
            raise DurationError(f"time: invalid duration {_quote(text)}")
        if not unit:
            raise DurationError(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS:
            raise DurationError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        total += _nanoseconds(digits, fraction or "", _UNITS[unit])
        if total > _LONGEST:
            raise DurationError(f"time: invalid duration {_quote(text)}")
        start += len(whole) + len(unit) + (0 if fraction is None else len(fraction) + 1)
    if total == _LONGEST and sign > 0:
        raise DurationError(f"time: invalid duration {_quote(text)}")
    return sign * total


def keep_alive_s(value: Any) -> float:
    """Seconds to keep a model, or `FOREVER_S`; `value` is decoded JSON.

    Raises:
        DurationError: With Ollama's text.
    """
    match value:
        case bool():
            raise DurationError("Unsupported type: 'bool'")
        case int() | float():
            return _seconds(value * 1e9)
        case str():
            return _seconds(parse_duration(value))
        case list():
            raise DurationError("Unsupported type: '[]interface {}'")
        case _:
            raise DurationError("Unsupported type: 'map[string]interface {}'")


def _seconds(ns: float) -> float:
    return FOREVER_S if ns < 0 or ns >= _LONGEST else int(ns) / 1e9


def _nanoseconds(whole: str, fraction: str, unit: int) -> int:
    kept = fraction[:_MOST_DIGITS]
    scale: int = 10 ** len(kept)
    return int(whole or "0") * unit + int(kept or "0") * unit // scale


def _quote(text: str) -> str:
    """Go's package `time` quotes in its own way: byte by byte where it is not ASCII."""
    if text.isascii() and text.isprintable():
        return quote(text)
    out = ""
    for char in text:
        if char in '"\\':
            out += "\\" + char
        elif " " <= char < "\x80":
            out += char
        else:
            out += "".join(f"\\x{byte:02x}" for byte in char.encode(errors="replace"))
    return f'"{out}"'
