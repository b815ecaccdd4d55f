"""JSON as it arrives, character by character refused as soon as it can no longer be right.

Strings may have raw control characters in them, since models write line breaks into code they pass on;
all else is RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import orjson

from rkllama_worker.engine.parsing.scanning import NotACallError, Source, Steps, space

DEPTH = 64

_PLAIN = re.compile(r'[^"\\]*')
_ESCAPES = frozenset('"\\/bfnrtu')
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NUMBER_BEGUN = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?)?((?<=\d)[eE][+-]?\d*)?")
_LITERALS = ("true", "false", "null")


def loads(text: str) -> Any:
    """The value of JSON text; what comes out can be written down as JSON again.

    Raises:
        NotACallError: It is no JSON, or a number or character in it has no meaning.
    """
    try:
        # The second reading refuses halves of surrogate pairs, and makes floats of endless integers.
        return orjson.loads(json.dumps(json.loads(text, strict=False)))
    except (ValueError, RecursionError) as error:
        raise NotACallError from error


def string(source: Source, *, among: Collection[str] | None = None) -> Steps[str]:
    """Read a string from its opening quote on; it has to be one of `among`."""
    begin = source.at
    source.at += 1
    escaped = False
    while True:
        matched = _PLAIN.match(source.text, source.at)
        source.at = source.at if matched is None else matched.end()
        left = len(source.text) - source.at
        if among is not None and not escaped:
            _check_begin(source.text[begin + 1 : source.at], among)
        if left and source.text[source.at] == '"':
            source.at += 1
            break
        if left > 1:
            if source.text[source.at + 1] not in _ESCAPES:
                raise NotACallError
            escaped = True
            source.at += 2
        else:
            yield None
    if among is None:
        return ""
    text: str = loads(source.text[begin : source.at])
    if text not in among:
        raise NotACallError
    return text


def key(source: Source, *, among: Collection[str] | None = None) -> Steps[str]:
    """Read a key and the colon behind it; its text only where there is an `among`."""
    text = yield from string(source, among=among)
    if (yield from space(source)) != ":":
        raise NotACallError
    source.at += 1
    return text


def more(source: Source, end: str) -> Steps[bool]:
    """Behind an element: whether a comma says that another one follows, or it is the end."""
    after = yield from space(source)
    if after not in {",", end}:
        raise NotACallError
    source.at += 1
    return after == ","


def value(source: Source, depth: int = 0) -> Steps[None]:
    """Read any value; a number or word is whole with the character behind it."""
    first = yield from space(source)
    if first == '"':
        yield from string(source)
    elif first in "{[":
        if depth == DEPTH:
            raise NotACallError
        yield from _container(source, first, depth + 1)
    else:
        yield from _word(source)


def _container(source: Source, opened: str, depth: int) -> Steps[None]:
    end = "}" if opened == "{" else "]"
    source.at += 1
    if (yield from space(source)) == end:
        source.at += 1
        return
    while True:
        if end == "}":
            if (yield from space(source)) != '"':
                raise NotACallError
            yield from key(source)
        yield from value(source, depth)
        if not (yield from more(source, end)):
            return


def _word(source: Source) -> Steps[None]:
    begin = source.at
    while True:
        matched = _WORD.match(source.text, source.at)
        source.at = source.at if matched is None else matched.end()
        text = source.text[begin : source.at]
        if source.at < len(source.text):
            break
        if not _NUMBER_BEGUN.fullmatch(text) and not any(w.startswith(text) for w in _LITERALS):
            raise NotACallError
        yield None
    if text not in _LITERALS and not _NUMBER.fullmatch(text):
        raise NotACallError


def _check_begin(text: str, among: Collection[str]) -> None:
    if not any(one.startswith(text) for one in among):
        raise NotACallError
