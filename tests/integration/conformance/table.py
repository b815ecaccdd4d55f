"""What a row of the table is, and the few words that rows are written in.

    row("2.15", "an unknown source", post("/api/copy", {...}), refused(404, 'model "nope" not found'))

In paths, bodies and expectations `~own~` is a name that only this run of this row has, `~OWN~` the
same in capitals, `~digest~` the SHA-256 of the first. Models under it are removed after the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.integration.conformance.matching import ANY, Matcher

Kind = Literal["json", "bare", "error", "ndjson", "plain", "empty"]
"""How a body comes (contract 1.3).

`json` and `bare` are whole answers, with a charset and without; `error` is one of the two.
"""

Server = Literal["emulated", "any-origin", "more-origins", "cpu"]
"""What a row is run against; see `system`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    host: str | None = None
    """Header `Host`; None for the server's own address."""
    chunked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One answer."""

    status: int
    kind: Kind
    body: Any = ANY
    """Of what the body says: decoded JSON, a list of records, or a text."""
    headers: Mapping[str, str | Matcher] = field(default_factory=dict)
    """Values joined by `, ` where a header comes several times; `ABSENT` for none."""
    raw: tuple[str, ...] = ()
    """Texts that the body has in it as they are here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request with what it must be answered."""

    request: Request
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One statement of the contract."""

    section: str
    """Of the contract, such as `1.2`."""
    name: str
    step: Step
    before: tuple[Request, ...] = ()
    """What has to be so first; each must succeed."""
    left: tuple[Request, ...] = ()
    """Answers that are left after their first bytes, before the request."""
    after: tuple[Step, ...] = ()
    """What is to be seen of it then."""
    on: Server = "emulated"

    @property
    def id(self) -> str:
        """Section and name."""
        return f"{self.section} {self.name}"


def row(
    section: str,
    name: str,
    request: Request,
    expected: Expected,
    *,
    before: tuple[Request, ...] = (),
    left: tuple[Request, ...] = (),
    after: tuple[Step, ...] = (),
    on: Server = "emulated",
) -> Row:
    """A row, of its request and its answer."""
    return Row(
        section=section,
        name=name,
        step=Step(request=request, expected=expected),
        before=before,
        left=left,
        after=after,
        on=on,
    )


def then(request: Request, expected: Expected) -> Step:
    """What is to be seen afterwards."""
    return Step(request=request, expected=expected)


def ask(
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    host: str | None = None,
    chunked: bool = False,
) -> Request:
    """A request; a `str` or `bytes` body goes as it is, anything else as JSON.

    Like `curl -d` it says nothing of its type unless `headers` do.
    """
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return Request(
        method=method,
        path=path,
        body=body,
        headers=tuple((headers or {}).items()),
        host=host,
        chunked=chunked,
    )


def get(path: str, **options: Any) -> Request:
    """A `GET`."""
    return ask("GET", path, **options)


def head(path: str, **options: Any) -> Request:
    """A `HEAD`."""
    return ask("HEAD", path, **options)


def post(path: str, body: object = b"", **options: Any) -> Request:
    """A `POST`."""
    return ask("POST", path, body, **options)


def delete(path: str, body: object = b"", **options: Any) -> Request:
    """A `DELETE`, whose body is JSON."""
    return ask("DELETE", path, body, **options)


def whole(path: str, **body: Any) -> Request:
    """A `POST` that wants no stream."""
    return post(path, {**body, "stream": False})


def also(expected: Expected, *raw: str, **headers: str | Matcher) -> Expected:
    """The same, with texts that stand in the body as they are and with headers (`_` for `-`)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(expected, raw=expected.raw + raw, headers={**expected.headers, **named})
