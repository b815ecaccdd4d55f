"""Sizes, lengths of time and moments, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NANOSECONDS = 1_000_000_000
_GIGABYTE = 1_000_000_000
_SIZES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_COUNTS = (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3))
_AGES = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("week", 7 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
    ("second", 1),
)
_FOREVER = timedelta(days=100 * 365)
"""A model that is kept for ever is said to go in some 292 years."""


def size(size_bytes: int) -> str:
    """`1.3 GB`, `271 MB`: decimal, one digit after the point below ten."""
    for name, unit in _SIZES:
        if size_bytes >= unit:
            value = size_bytes / unit
            return (
                f"{value:.1f} {name}" if unit >= _GIGABYTE or value < 10 else f"{value:.0f} {name}"
            )
    return f"{size_bytes} B"


def count(number: int) -> str:
    """`1.2B`, `134.5M`, `900`: as models are called."""
    for name, unit in _COUNTS:
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + name
    return str(number)


def apart(moment: datetime, *, now: datetime) -> str:
    """`2 hours ago`, `4 minutes from now`, `just now`, `forever`."""
    distance = moment - now
    if distance > _FOREVER:
        return "forever"
    seconds = round(abs(distance.total_seconds()))
    for name, unit in _AGES:
        if seconds >= unit:
            number = seconds // unit
            text = f"{number} {name}" if number == 1 else f"{number} {name}s"
            return f"{text} from now" if distance > timedelta(0) else f"{text} ago"
    return "just now"


def moment(text: str) -> datetime | None:
    """An RFC 3339 time of a server, which may have nine digits after the point."""
    head, point, tail = text.partition(".")
    if point:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6]}{tail[digits:]}"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def duration(nanoseconds: int) -> str:
    """`1.25 s`, `340 ms`, `2 min 5 s`: how long something took."""
    seconds = nanoseconds / NANOSECONDS
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
