r"""Text the way Go prints it: `strconv.Quote`, and JSON with `<`, `>` and `&` escaped.

Clients surface Ollama's texts verbatim, and its JSON is written by `encoding/json`, which escapes
these three also where no browser will ever look (contract 1.3).
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_SHORT = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
}
_IN_JSON = {
    b"<": rb"\u003c",
    b">": rb"\u003e",
    b"&": rb"\u0026",
    b"\xe2\x80\xa8": rb"\u2028",
    b"\xe2\x80\xa9": rb"\u2029",
}
_TO_ESCAPE = re.compile(b"[<>&]|\xe2\x80[\xa8\xa9]")


def quote(text: str) -> str:
    """`text` as the verb `%q` prints it, quotes included."""
    return '"' + escape(text).replace('"', r"\"") + '"'


def escape(text: str) -> str:
    """`text` with Go's escapes for what cannot be printed, and no quotes around it."""
    return "".join(_escape_one(char) for char in text)


def _escape_one(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def dumps(value: Any) -> bytes:
    """Compact JSON with Go's escapes; non-ASCII stays UTF-8, but for two line separators.

    Outside of strings JSON has none of these characters, so that replacing bytes is enough.
    """
    data = orjson.dumps(value)
    if _TO_ESCAPE.search(data):
        return _TO_ESCAPE.sub(_escaped, data)
    return data


def _escaped(found: re.Match[bytes]) -> bytes:
    return _IN_JSON[found[0]]
