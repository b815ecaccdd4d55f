"""Request bodies, decoded as Go's `encoding/json` decodes them into a struct (contract 1.2).

A request type is a table: JSON name to `Kind`. Decoding gives a plain dict with a key for every
field that was there and not null:

    CHAT = struct("ChatRequest", {"model": STRING, "messages": array(MESSAGE), ...})
    decode(b'{"MODEL": "m", "unknown": 1} trailing', CHAT)      ->  {"model": "m"}
    decode(b'{"model": 1}', CHAT)                               ->  DialectError(400, "json: ...")

Well-formed JSON is read by the standard library; `goscan` finds Go's words for the rest.
"""

from __future__ import annotations

import json
from typing import Any

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gokinds import (
    LONE_SURROGATE,
    Kind,
    Number,
    Pairs,
    RefusalError,
    Trail,
)
from rkllama_gateway.dialects.goscan import UNEXPECTED_EOF, syntax_error

MISSING_BODY = "missing request body"

_BLANKS = b" \t\r\n"


def decode(body: bytes, kind: Kind, *, missing: str = MISSING_BODY) -> dict[str, Any]:
    """The fields of the first JSON value in `body`; what follows it is ignored.

    Raises:
        DialectError: 400 with Go's text; `missing` for a body with nothing in it.
    """
    trail = Trail()
    value = _parse(body, missing)
    if value is None:
        return {}
    try:
        fields: dict[str, Any] = kind.take(value, trail)
    except RefusalError as refusal:
        raise DialectError(400, str(refusal)) from None
    if trail.wrong:
        raise DialectError(400, trail.wrong)
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_refuse_constant,
)


def _parse(body: bytes, missing: str) -> Any:
    text = _text(body.lstrip(_BLANKS))
    if not text:
        raise DialectError(400, missing)
    try:
        if text[0] in "{[":
            return _DECODER.raw_decode(text)[0]
    except (ValueError, RecursionError) as error:
        raise DialectError(400, syntax_error(body) or _roughly(error)) from None
    if complaint := syntax_error(body):
        raise DialectError(400, complaint)
    return _DECODER.raw_decode(text)[0]


def _roughly(error: Exception) -> str:
    """What the decoder of the standard library says, for bodies too long to say it in Go's words."""
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
            return UNEXPECTED_EOF
        return f"invalid JSON at character {error.pos}: {error.msg}"
    return "exceeded max depth"


def _text(body: bytes) -> str:
    """The body as text; every byte that is not UTF-8 becomes U+FFFD, one by one as in Go."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return LONE_SURROGATE.sub("\ufffd", body.decode(errors="surrogateescape"))
