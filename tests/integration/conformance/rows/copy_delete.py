"""`/api/copy` (contract 2.15), `/api/delete` (2.16) and `/api/blobs` (2.17)."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.integration.conformance.matching import Partial, has
from tests.integration.conformance.shapes import ANY_OBJECT, answered, chat, empty, refused
from tests.integration.conformance.table import (
    Expected,
    Row,
    delete,
    get,
    head,
    post,
    row,
    then,
    whole,
)


def copies(source: Any, destination: Any) -> Any:
    """A copy."""
    return post("/api/copy", {"source": source, "destination": destination})


def deletes(**body: Any) -> Any:
    """A delete."""
    return delete("/api/delete", body)


OWN = copies("plain", "~own~")
HELLO = then(
    whole("/api/chat", model="~own~", messages=[{"role": "user", "content": "hi"}]),
    chat("~own~", "Hello."),
)
EXISTS = then(post("/api/show", {"model": "~own~"}), answered(Partial({"details": ANY_OBJECT})))
GONE = then(post("/api/show", {"model": "~own~"}), refused(404, "model '~own~:latest' not found"))
SOURCE = then(post("/api/show", {"model": "plain"}), answered(Partial({"details": ANY_OBJECT})))


def digest(data: bytes) -> str:
    """Of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


DATA = b"conformance"
THERE, NOWHERE = digest(DATA), "sha256:" + "1" * 64
STORED = post(f"/api/blobs/{THERE}", DATA)
CREATED, ALREADY = empty(201), empty(200)
OWN_BLOB = "/api/blobs/sha256:~digest~"
NEW = post(OWN_BLOB, b"~own~")


ROWS: tuple[Row, ...] = (
    row("2.15", "a copy", OWN, empty(), after=(EXISTS, HELLO, SOURCE)),
    row("2.15", "a copy of a tag", copies("plain:latest", "~own~:v1"), empty(), after=(
        then(get("/api/tags"), answered({"models": has(Partial({"name": "~own~:v1"}))})),)),
    row("2.15", "a copy over another", copies("voiced", "~own~"), empty(), before=(OWN,), after=(
        then(post("/api/show", {"model": "~own~"}), answered(Partial({"system": "You are a PIRATE."}))),)),
    row("2.15", "a copy from a name in capitals", copies("PLAIN", "~own~"), empty(), after=(EXISTS,)),
    row("2.15", "a copy onto itself", copies("~own~", "~own~"), empty(), before=(OWN,), after=(EXISTS,)),
    row("2.15", "a source that is no name", copies("a b", "x"), refused(400, 'source "a b" is invalid')),
    row("2.15", "a destination that is no name", copies("plain", "bad name"),
        refused(400, 'destination "bad name" is invalid')),
    row("2.15", "the source is looked at first", copies("a b", "c d"), refused(400, 'source "a b" is invalid')),
    row("2.15", "no source", post("/api/copy", {"destination": "x"}), refused(400, 'source "" is invalid')),
    row("2.15", "no destination", post("/api/copy", {"source": "plain"}), refused(400, 'destination "" is invalid')),
    row("2.15", "a source that is not there", copies("nope", "~own~"), refused(404, 'model "nope" not found'),
        after=(GONE,)),
    row("2.16", "a delete", deletes(model="~own~"), empty(), before=(OWN,), after=(GONE, SOURCE)),
    row("2.16", "the old name of the name", deletes(name="~own~"), empty(), before=(OWN,), after=(GONE,)),
    row("2.16", "a delete of a name in capitals", deletes(model="~OWN~:LATEST"), empty(), before=(OWN,), after=(GONE,)),
    row("2.16", "a delete with blanks around it", deletes(model=" ~own~ "), empty(), before=(OWN,), after=(GONE,)),
    row("2.16", "a delete of one tag", deletes(model="~own~:a"), empty(), before=(OWN, copies("plain", "~own~:a")),
        after=(EXISTS,)),
    row("2.16", "a second delete", deletes(model="~own~"), refused(404, "model '~own~' not found"),
        before=(OWN, deletes(model="~own~"))),
    row("2.16", "nothing", deletes(), refused(400, "model is required")),
    row("2.16", "an empty name", deletes(model=""), refused(400, "model is required")),
    row("2.16", "no name at all", deletes(model="a b"), refused(400, 'name "a b" is invalid')),
    row("2.16", "what is not there", deletes(model="nope"), refused(404, "model 'nope' not found")),
    row("2.16", "what is not there, as typed", deletes(model="Nope:v1"), refused(404, "model 'Nope:v1' not found")),
    row("2.16", "a model that runs is not stopped", deletes(model="~own~"), empty(),
        before=(whole("/api/create", model="~own~", **{"from": "plain", "system": "~own~"}),
                post("/api/generate", {"model": "~own~"})),
        after=(GONE, then(get("/api/ps"), answered({"models": has(Partial({"name": "~own~:latest"}))})))),
    # ---------------------------------------------------------------- blobs
    row("2.17", "a blob that is new", NEW, CREATED, after=(then(head(OWN_BLOB), empty()),)),
    row("2.17", "a blob that is there", NEW, ALREADY, before=(NEW,)),
    row("2.17", "the head of a blob", head(f"/api/blobs/{THERE}"), empty(), before=(STORED,)),
    row("2.17", "the head of a blob with a dash", head(f"/api/blobs/{THERE.replace(':', '-')}"), empty(), before=(STORED,)),
    row("2.17", "the head of what is not there", head(f"/api/blobs/{NOWHERE}"), Expected(status=404, kind="plain")),
    *(
        row("2.17", f"the head of {text!r}", head(f"/api/blobs/{text}"), Expected(status=400, kind="plain"))
        for text in ("sha256:abc", "md5:" + "0" * 64, "sha256:" + "g" * 64, "x")
    ),
    row("2.17", "an upload to what is no digest", post("/api/blobs/sha256:abc", b"x"), refused(400, "invalid digest format")),
    row("2.17", "other bytes than it says", post(f"/api/blobs/{NOWHERE}", DATA),
        refused(400, f'digest mismatch, expected "{NOWHERE}", got "{THERE}"'),
        after=(then(head(f"/api/blobs/{NOWHERE}"), Expected(status=404, kind="plain")),)),
    row("2.17", "what is there is not read again", post(f"/api/blobs/{THERE}", b"something else"), ALREADY,
        before=(STORED,)),
    row("2.17", "an upload in chunks", post(OWN_BLOB, b"~own~", chunked=True), CREATED),
    row("2.17", "an upload of any type", post(
        OWN_BLOB, b"~own~", headers={"Content-Type": "application/json"}), CREATED),
    row("2.17", "an upload under a dash of what is there", post(
        "/api/blobs/sha256-~digest~", b"~own~"), ALREADY, before=(NEW,)),
)  # fmt: skip
