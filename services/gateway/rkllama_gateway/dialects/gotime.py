"""Times as Go prints them in JSON: RFC 3339, up to nine fractional digits, no trailing zeros."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

FOREVER_NS = 2**63 - 1
"""The longest `time.Duration`, about 292 years; what "never expires" is shown as (contract 1.7)."""

_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def utc(ns: int) -> str:
    """A time in nanoseconds since the epoch, ending in `Z`."""
    second, rest = divmod(ns, _NS)
    return f"{_second(second)}{_fraction(rest)}Z"


def local(ns: int, *, offset_s: int) -> str:
    """The same with a numeric offset, also where that is zero.

    A Go client refuses `modified_at` and `expires_at` with `Z` (contract 1.4).
    """
    second, rest = divmod(ns, _NS)
    sign = "-" if offset_s < 0 else "+"
    hours, minutes = divmod(abs(offset_s) // 60, 60)
    return f"{_second(second + offset_s)}{_fraction(rest)}{sign}{hours:02}:{minutes:02}"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    """Chunks come many times a second, and formatting one costs more than the rest of a line."""
    return (_EPOCH + timedelta(seconds=second)).isoformat()


def _fraction(ns: int) -> str:
    return f".{ns:09}".rstrip("0") if ns else ""
