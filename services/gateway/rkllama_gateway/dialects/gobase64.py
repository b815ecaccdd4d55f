"""Standard base64 as Go's `encoding/base64` reads it: padded, line breaks skipped."""

from __future__ import annotations

import binascii
import re

_FOREIGN = re.compile(r"[^A-Za-z0-9+/\r\n]")
_BREAKS = re.compile(r"[\r\n]*")


def illegal_byte(text: str) -> int | None:
    """Where Go stops reading `text`, or None when it is well-formed."""
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return _first_illegal(text)
    return None


def _first_illegal(text: str) -> int | None:
    found = _FOREIGN.search(text)
    end = found.start() if found else len(text)
    digits = (end - text.count("\r", 0, end) - text.count("\n", 0, end)) % 4
    if found is None:
        return end - digits if digits else None
    if found[0] != "=" or digits < 2:
        return end
    end = _after_breaks(text, end + 1)
    if digits == 2:
        if end == len(text):
            return end
        if text[end] != "=":
            return end - 1
        end = _after_breaks(text, end + 1)
    return end if end < len(text) else None


def _after_breaks(text: str, at: int) -> int:
    found = _BREAKS.match(text, at)
    return found.end() if found else at
