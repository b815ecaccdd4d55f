"""Paths, methods, redirects and what stands where there is no route (contract 1.1, 2.1-2.3)."""

from __future__ import annotations

import json

from tests.integration.conformance.matching import ABSENT, Match
from tests.integration.conformance.shapes import NOT_FOUND, answered, plain
from tests.integration.conformance.table import (
    Expected,
    Row,
    also,
    ask,
    delete,
    get,
    head,
    post,
    row,
)

POSTS = (
    "/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show", "/api/pull",
    "/api/push", "/api/create", "/api/copy", "/api/me", "/api/signout",
    "/api/experimental/web_search", "/api/experimental/web_fetch", "/v1/chat/completions",
    "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
    "/v1/audio/transcriptions",
)  # fmt: skip
DIGEST = "sha256:" + "0" * 64
KEY = "c3NoLWVkMjU1MTk"


def not_allowed(allow: str) -> Expected:
    """Another method is."""
    return also(plain(405, "405 method not allowed"), Allow=allow)


def moved(status: int, location: str) -> Expected:
    """Elsewhere, told to a client that sends again what it sent."""
    headers = {"location": location, "content-length": "0", "content-type": ABSENT}
    return Expected(status=status, kind="empty", headers=headers)


def shown(status: int, location: str, reason: str) -> Expected:
    """Elsewhere, told on a page."""
    return Expected(
        status=status,
        kind="plain",
        body=f'<a href="{location}">{reason}</a>.\n\n',
        headers={"location": location, "content-type": "text/html; charset=utf-8"},
    )


PERMANENTLY, FOR_NOW = "Moved Permanently", "Temporary Redirect"


FORM = "multipart/form-data; boundary=X"
NO_FORM = "request Content-Type isn't multipart/form-data"
PLAIN = "registry.ollama.ai/library/plain:latest"


def openai_error(text: str, kind: str = "invalid_request_error") -> dict[str, object]:
    """An error as OpenAI shapes it."""
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


def speech(model: str) -> str:
    """A form with a model and a file."""
    head = "--X\r\nContent-Disposition: form-data; name="
    return (
        f'{head}"model"\r\n\r\n{model}\r\n{head}"file"; filename="a.wav"\r\n\r\nRIFF\r\n--X--\r\n'
    )


GREETING = Expected(
    status=200,
    kind="plain",
    body="Ollama is running",
    headers={"content-type": "text/plain; charset=utf-8", "content-length": "17"},
)
VERSION = answered({"version": Match(r"\d+\.\d+\.\d+")})
STATUS = answered({"cloud": {"disabled": True, "source": "env"}})

ROWS: tuple[Row, ...] = (
    row("2.1", "the greeting", get("/"), GREETING),
    row("2.1", "the greeting's head", head("/"), GREETING),
    row("2.2", "a bare version", get("/api/version"), VERSION),
    row(
        "1.1",
        "the version's head",
        head("/api/version"),
        also(VERSION, content_length=Match(r"\d+")),
    ),
    row("1.1", "the tags' head", head("/api/tags"), answered(None)),
    row("2.3", "there is no cloud", get("/api/status"), STATUS),
    row("1.1", "status has no head", head("/api/status"), not_allowed("GET")),
    row("1.1", "ps has no head", head("/api/ps"), not_allowed("GET")),
    *(row("1.1", f"GET {path}", get(path), not_allowed("POST")) for path in POSTS),
    row("1.1", "POST /", post("/"), not_allowed("HEAD, GET")),
    row("1.1", "POST /api/version", post("/api/version"), not_allowed("HEAD, GET")),
    row("1.1", "DELETE /api/tags", delete("/api/tags"), not_allowed("HEAD, GET")),
    row("1.1", "POST /api/delete", post("/api/delete", {"model": "x"}), not_allowed("DELETE")),
    row("1.1", "GET of a blob", get(f"/api/blobs/{DIGEST}"), not_allowed("HEAD, POST")),
    row("1.1", "GET of a user's key", get(f"/api/user/keys/{KEY}"), not_allowed("DELETE")),
    row(
        "1.1",
        "POST of the recommendations",
        post("/api/experimental/model-recommendations"),
        not_allowed("GET"),
    ),
    row("1.1", "POST /v1/models", post("/v1/models"), not_allowed("GET")),
    row("1.1", "DELETE of one of /v1/models", delete("/v1/models/plain"), not_allowed("GET")),
    row("1.1", "OPTIONS without an origin", ask("OPTIONS", "/api/chat"), not_allowed("POST")),
    row("1.1", "PUT", ask("PUT", "/api/chat", {}), not_allowed("POST")),
    row(
        "1.1",
        "the head of a POST",
        head("/api/chat"),
        Expected(status=405, kind="plain", headers={"allow": "POST"}),
    ),
    *(
        row("1.1", f"{method} {path} is nothing", ask(method, path), NOT_FOUND)
        for method, path in (
            ("GET", "/nothing"),
            ("GET", "/api"),
            ("GET", "/api/models"),
            ("GET", "/health"),
            ("POST", "/v1/images/generations"),
            ("DELETE", "/nothing"),
            ("GET", "/API/tags"),
            ("GET", "/api/blobs"),
            ("GET", "/v1/models/ns/name:tag"),
            ("GET", "/v1/models/ns%2Fname:tag"),
            ("HEAD", f"/api/blobs/x/{DIGEST}"),
            ("GET", "/api/tags/more"),
            ("GET", "/v1"),
            ("POST", "/api/blobs/"),
        )
    ),
    row(
        "1.1",
        "a slash too many, GET",
        get("/api/tags/"),
        shown(301, "/api/tags", PERMANENTLY),
    ),
    row("1.1", "a slash too many, POST", post("/api/chat/", {}), moved(307, "/api/chat")),
    row("1.1", "a slash too many, DELETE", delete("/api/delete/", {}), moved(307, "/api/delete")),
    row(
        "1.1",
        "a slash too many, with a query",
        get("/api/tags/?a=b"),
        shown(301, "/api/tags?a=b", PERMANENTLY),
    ),
    row(
        "1.1",
        "two slashes too many",
        get("/api/tags//"),
        shown(307, "/api/tags/", FOR_NOW),
    ),
    *(
        row("1.1", f"GET {path} is moved", get(path), shown(307, clean, FOR_NOW))
        for path, clean in (
            ("//api/tags", "/api/tags"),
            ("/api//tags?a=%26b", "/api/tags?a=%26b"),
            ("/api/./tags", "/api/tags"),
            ("/x/../api/tags", "/api/tags"),
            ("/..//nothing", "/nothing"),
            ("//", "/"),
        )
    ),
    row("1.1", "POST //api/chat is moved", post("//api/chat", {}), moved(307, "/api/chat")),
    row("1.1", "DELETE /api//delete is moved", delete("/api//delete"), moved(307, "/api/delete")),
    row(
        "3.6",
        "speech in no form",
        post("/v1/audio/transcriptions", {}),
        answered(openai_error(f"failed to parse multipart form: {NO_FORM}"), status=400),
    ),
    *(
        row(
            "3.6",
            f"speech for {model}",
            post("/v1/audio/transcriptions", speech(model), headers={"Content-Type": FORM}),
            Expected(
                status=status,
                kind="plain",
                body=json.dumps(openai_error(text, kind), separators=(",", ":")) + "\n",
                headers={"content-type": "application/json"},
            ),
        )
        for model, status, kind, text in (
            ("plain", 400, "invalid_request_error", f"{PLAIN} does not support audio"),
            ("nope", 404, "not_found_error", "model 'nope' not found"),
            ("a b", 400, "invalid_request_error", "invalid model name"),
        )
    ),
    row("1.1", "a query does not matter", get("/api/version?x=1"), VERSION),
    row(
        "1.3",
        "no origin, no CORS",
        get("/api/version"),
        also(VERSION, access_control_allow_origin=ABSENT, vary=ABSENT),
    ),
)
