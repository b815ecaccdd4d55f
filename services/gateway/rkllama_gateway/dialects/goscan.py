r"""Go's words for malformed JSON: the states of `encoding/json`'s scanner, for its texts only.

Well-formed input never comes here. One step is one token, not one byte, so that a large malformed
body is no burden; nothing recurses, so that a deep one is none either.

    value ──▶ after ──▶ value      `,` in an array
      ▲         │ ───▶ key ──▶ colon ──▶ value
      └─ [      └─ ] } leave
"""

from __future__ import annotations

import re
from enum import Enum, auto

from rkllama_gateway.dialects.gotext import escape

MAX_DEPTH = 128
"""Levels of nesting. Go has 10 000; a job must also fit what carries it (pydantic reads 200)."""

MOST_TOKENS = 20_000
"""Where the search ends: some 50 ms."""

UNEXPECTED_EOF = "unexpected EOF"

_BLANK = re.compile(rb"[ \t\r\n]*")
_IN_STRING = re.compile(rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_HEX = re.compile(rb"[0-9a-fA-F]*")
_DIGITS = re.compile(rb"[0-9]*")
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


class _Expect(Enum):
    VALUE = auto()
    FIRST_VALUE = auto()
    KEY = auto()
    FIRST_KEY = auto()
    COLON = auto()
    AFTER = auto()


class _Stop(Exception):  # noqa: N818 - it carries the answer, it is no failure
    """The text is found."""


def syntax_error(data: bytes) -> str | None:
    """Go's complaint about the first JSON value in `data`.

    None when that value is well-formed, or so long that finding out would hold up other requests.
    """
    try:
        _scan(data)
    except _Stop as stop:
        return str(stop)
    return None


def _scan(data: bytes) -> None:
    closers: list[int] = []
    expect = _Expect.VALUE
    at = 0
    for _ in range(MOST_TOKENS):
        at = _skip(_BLANK, data, at)
        byte = _byte(data, at)
        if expect is _Expect.COLON:
            if byte != ord(":"):
                raise _invalid(byte, "after object key")
            at, expect = at + 1, _Expect.VALUE
        elif expect is _Expect.AFTER:
            at, expect = at + 1, _after(byte, closers)
        elif expect in (_Expect.FIRST_VALUE, _Expect.FIRST_KEY) and byte == closers[-1]:
            closers.pop()
            at, expect = at + 1, _Expect.AFTER
        elif expect in (_Expect.KEY, _Expect.FIRST_KEY):
            if byte != ord('"'):
                raise _invalid(byte, "looking for beginning of object key string")
            at, expect = _string(data, at + 1), _Expect.COLON
        elif byte in b"[{":
            closers.append(ord("]") if byte == ord("[") else ord("}"))
            if len(closers) > MAX_DEPTH:
                raise _invalid(byte, "exceeded max depth")
            expect = _Expect.FIRST_VALUE if byte == ord("[") else _Expect.FIRST_KEY
            at += 1
        else:
            at, expect = _scalar(data, at, byte), _Expect.AFTER
        if expect is _Expect.AFTER and not closers:
            return


def _after(byte: int, closers: list[int]) -> _Expect:
    if byte == closers[-1]:
        closers.pop()
        return _Expect.AFTER
    in_array = closers[-1] == ord("]")
    if byte == ord(","):
        return _Expect.VALUE if in_array else _Expect.KEY
    raise _invalid(byte, "after array element" if in_array else "after object key:value pair")


def _scalar(data: bytes, at: int, byte: int) -> int:
    if byte == ord('"'):
        return _string(data, at + 1)
    if byte in b"-0123456789":
        return _number(data, at)
    if byte in _LITERALS:
        return _literal(data, at, _LITERALS[byte])
    raise _invalid(byte, "looking for beginning of value")


def _string(data: bytes, at: int) -> int:
    at = _skip(_IN_STRING, data, at)
    byte = _byte(data, at)
    if byte == ord('"'):
        return at + 1
    if byte != ord("\\"):
        raise _invalid(byte, "in string literal")
    escaped = _byte(data, at + 1)
    if escaped != ord("u"):
        raise _invalid(escaped, "in string escape code")
    at = _skip(_HEX, data, at + 2)
    raise _invalid(_byte(data, at), "in \\u hexadecimal character escape")


def _number(data: bytes, at: int) -> int:
    if data[at] == ord("-"):
        at += 1
        if not _digit(_byte(data, at)):
            raise _invalid(data[at], "in numeric literal")
    at = at + 1 if data[at] == ord("0") else _skip(_DIGITS, data, at)
    if data[at : at + 1] == b".":
        if not _digit(_byte(data, at + 1)):
            raise _invalid(data[at + 1], "after decimal point in numeric literal")
        at = _skip(_DIGITS, data, at + 1)
    if data[at : at + 1] in (b"e", b"E"):
        at += 1
        if _byte(data, at) in b"+-":
            at += 1
        if not _digit(_byte(data, at)):
            raise _invalid(data[at], "in exponent of numeric literal")
        at = _skip(_DIGITS, data, at)
    return at


def _literal(data: bytes, at: int, word: bytes) -> int:
    for offset, expected in enumerate(word):
        byte = _byte(data, at + offset)
        if byte != expected:
            raise _invalid(byte, f"in literal {word.decode()} (expecting '{chr(expected)}')")
    return at + len(word)


def _skip(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at


def _digit(byte: int) -> bool:
    return ord("0") <= byte <= ord("9")


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise _Stop(UNEXPECTED_EOF)
    return data[at]


def _invalid(byte: int, context: str) -> _Stop:
    char = chr(byte)
    shown = r"\'" if char == "'" else escape(char)
    return _Stop(f"invalid character '{shown}' {context}")
