"""A row, run: what came that should not have come."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Any, Protocol

import h11

from tests.integration.conformance import wire
from tests.integration.conformance.matching import Absent, mismatch
from tests.integration.conformance.table import Expected, Request, Row, Server, Step, delete, post

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_OWN = ("~own~", "~OWN~", "~digest~")


class Gateways(Protocol):
    """What rows are run against."""

    def url(self, server: Server) -> str:
        """Of the gateway to test."""

    def sound_url(self, server: Server) -> str:
        """Of one that can be relied on, to clean up with."""


def run(row: Row, gateways: Gateways) -> str:
    """The first thing that is not as the contract has it; empty if all is."""
    own = f"c{uuid.uuid4().hex[:12]}"
    url = gateways.url(row.on)
    try:
        return _ran(row, url, own)
    except (OSError, h11.ProtocolError) as error:
        return f"there is no answer: {error!r}"
    finally:
        if any(mark in repr(row) for mark in _OWN):
            _remove(gateways.sound_url(row.on), own)


def _ran(row: Row, url: str, own: str) -> str:
    for request in row.before:
        came = wire.ask(url, _filled(request, own))
        if came.status >= 300 or b'"error"' in came.body:
            return f"before: {request.path} answered {came.status} {came.body.decode()}"
    for request in row.left:
        with wire.open_answer(url, _filled(request, own)):
            pass
    complaint = _judged(row.step, url, own)
    for number, step in enumerate(row.after, 1):
        complaint = complaint or _prefixed(f"then {number}", _judged(step, url, own))
    return complaint


def _judged(step: Step, url: str, own: str) -> str:
    came = wire.ask(url, _filled(step.request, own))
    return judge(step.request, step.expected, came, own)


def _marks(own: str) -> dict[str, str]:
    """What stands for what in rows, the longer first."""
    digest = hashlib.sha256(own.encode()).hexdigest()
    return {"~digest~": digest, "~own~": own, "~OWN~": own.upper()}


def _filled(request: Request, own: str) -> wire.Sent:
    marks = _marks(own)

    def fill(text: str) -> str:
        for mark, value in marks.items():
            text = text.replace(mark, value)
        return text

    return wire.Sent(
        method=request.method,
        target=fill(request.path),
        headers=tuple((name, fill(value)) for name, value in request.headers),
        # Latin-1 takes every byte and gives it back.
        body=request.body and fill(request.body.decode("latin-1")).encode("latin-1"),
        host=request.host,
        chunked=request.chunked,
    )


def _remove(url: str, own: str) -> None:
    tags = json.loads(wire.ask(url, wire.Sent(method="GET", target="/api/tags")).body)
    for name in (model["name"] for model in tags["models"] if own in model["name"].lower()):
        for request in (
            post("/api/generate", {"model": name, "keep_alive": 0}),
            delete("/api/delete", {"model": name}),
        ):
            came = wire.ask(url, _filled(request, own))
            assert came.status == 200, f"{name} stays: {came.body.decode()}"


# ------------------------------------------------------------------ judging


def judge(request: Request, expected: Expected, came: wire.Received, own: str = "~own~") -> str:
    """What is wrong with an answer; names of the row's own are put back into `~own~` first."""
    body = came.body
    for mark, value in _marks(own).items():
        body = body.replace(value.encode(), mark.encode())
    shown = body.decode(errors="replace")
    if came.status != expected.status:
        return f"status is {came.status}, not {expected.status}: {shown[:500]}"
    for name, wanted in expected.headers.items():
        values = came.header(name.lower())
        if isinstance(wanted, Absent):
            if values:
                return f"header {name} is there: {values}"
        elif not values:
            return f"header {name} is not there: {came.headers}"
        elif found := mismatch(wanted, ", ".join(values), f"header {name}"):
            return found
    for text in expected.raw:
        if text not in shown:
            return f"the body has no {text!r} in it: {shown[:500]}"
    if found := _framing(request, expected, came):
        return found
    if request.method == "HEAD":
        return f"HEAD has a body: {shown!r}" if body else ""
    return _content(expected, body)


def _framing(request: Request, expected: Expected, came: wire.Received) -> str:
    """Type, length and form of a body of this kind (contract 1.3)."""
    types = {
        "json": ["application/json; charset=utf-8"],
        "bare": ["application/json"],
        "error": ["application/json; charset=utf-8", "application/json"],
        "ndjson": ["application/x-ndjson"],
    }
    kind = expected.kind
    said = came.header("content-type")
    if kind in types and (len(said) != 1 or said[0] not in types[kind]):
        return f"content-type is {said}, not {types[kind]}"
    lengths = came.header("content-length")
    if lengths and request.method != "HEAD" and lengths != [str(len(came.body))]:
        return f"content-length is {lengths}, the body has {len(came.body)} bytes"
    if kind == "ndjson":
        if lengths:
            return "a stream has a length"
        if any(not frame.endswith(b"\n") for frame in came.frames):
            return f"a line is not sent in one piece: {came.frames}"
    if kind in types and request.method != "HEAD":
        return _compact(came.body, lines=kind == "ndjson")
    return ""


def _compact(body: bytes, *, lines: bool) -> str:
    """Compact JSON, escaped as for HTML, with `\\n` after each record of a stream and nowhere else."""
    if lines and (not body.endswith(b"\n") or b"" in body.splitlines()):
        return f"a stream has an empty line, or none at its end: {body!r}"
    outside = _STRING.sub(b"", body)
    if blanks := re.findall(rb"[ \t\r]" if lines else rb"\s", outside):
        return f"the JSON is not compact, there is {blanks[0]!r}: {body[:300]!r}"
    if found := re.search(rb"[<>&]", body):
        return f"{found[0].decode()} is not escaped: {body[:300]!r}"
    return ""


def _content(expected: Expected, body: bytes) -> str:
    content: Any
    try:
        match expected.kind:
            case "json" | "bare" | "error":
                content = json.loads(body)
            case "ndjson":
                content = [json.loads(line) for line in body.splitlines()]
            case "plain":
                content = body.decode()
            case "empty":
                return f"there is a body: {body!r}" if body else ""
    except ValueError as error:
        return f"the body is damaged: {error}: {body[:300]!r}"
    return mismatch(expected.body, content)


def _prefixed(prefix: str, complaint: str) -> str:
    return f"{prefix}: {complaint}" if complaint else ""
