"""How request bodies are read and answers are written (contract 1.2, 1.3)."""

from __future__ import annotations

import json

from tests.integration.conformance.matching import ABSENT, Match, Partial
from tests.integration.conformance.models import MARKUP, SENTENCE
from tests.integration.conformance.shapes import (
    answered,
    chat,
    chat_stream,
    generated,
    loaded,
    refused,
)
from tests.integration.conformance.table import Row, also, delete, get, post, row, whole

LOAD = json.dumps({"model": "plain", "stream": False})
LOADED = loaded("generate", "plain")
CHAT_LOADED = loaded("chat", "plain")

ENDPOINTS = {
    "/api/generate": "GenerateRequest",
    "/api/chat": "ChatRequest",
    "/api/embed": "EmbedRequest",
    "/api/embeddings": "EmbeddingRequest",
    "/api/show": "ShowRequest",
    "/api/pull": "PullRequest",
    "/api/push": "PushRequest",
    "/api/create": "CreateRequest",
    "/api/copy": "CopyRequest",
}


def not_into(value: str, field: str, kind: str) -> str:
    """Go's words for a value of the wrong type."""
    return f"json: cannot unmarshal {value} into Go struct field {field} of type {kind}"


def _message(**fields: object) -> dict[str, object]:
    return {"model": "plain", "messages": [{"role": "user", **fields}]}


WRONG_TYPES: tuple[tuple[str, object, str], ...] = (
    ("/api/generate", {"model": 1}, not_into("number", "GenerateRequest.model", "string")),
    ("/api/generate", {"prompt": ["x"]}, not_into("array", "GenerateRequest.prompt", "string")),
    ("/api/generate", {"stream": "no"}, not_into("string", "GenerateRequest.stream", "bool")),
    ("/api/generate", {"raw": 1}, not_into("number", "GenerateRequest.raw", "bool")),
    ("/api/generate", {"context": "x"}, not_into("string", "GenerateRequest.context", "[]int")),
    (
        "/api/generate",
        {"options": 1},
        not_into("number", "GenerateRequest.options", "map[string]interface {}"),
    ),
    ("/api/chat", {"model": True}, not_into("bool", "ChatRequest.model", "string")),
    (
        "/api/chat",
        {"options": "x"},
        not_into("string", "ChatRequest.options", "map[string]interface {}"),
    ),
    ("/api/chat", {"messages": {}}, not_into("object", "ChatRequest.messages", "[]api.Message")),
    (
        "/api/chat",
        _message(content=1),
        not_into("number", "ChatRequest.messages.content", "string"),
    ),
    (
        "/api/chat",
        _message(content=[{"type": "text", "text": "hi"}]),
        not_into("array", "ChatRequest.messages.content", "string"),
    ),
    ("/api/embed", {"dimensions": "8"}, not_into("string", "EmbedRequest.dimensions", "int")),
    ("/api/embeddings", {"prompt": 1}, not_into("number", "EmbeddingRequest.prompt", "string")),
    ("/api/show", {"verbose": "x"}, not_into("string", "ShowRequest.verbose", "bool")),
    ("/api/pull", {"model": []}, not_into("array", "PullRequest.model", "string")),
    ("/api/create", {"from": 1}, not_into("number", "CreateRequest.from", "string")),
    (
        "/api/create",
        {"files": {"a": 1}},
        not_into("number", "CreateRequest.files", "string"),
    ),
    ("/api/copy", {"source": 1}, not_into("number", "CopyRequest.source", "string")),
)

NULLS = (
    "stream", "options", "format", "think", "keep_alive", "images", "context", "system",
    "template", "suffix", "raw", "prompt", "truncate", "top_logprobs",
)  # fmt: skip

BAD_IMAGE = "illegal base64 data at input byte {}"

ROWS: tuple[Row, ...] = (
    *(
        row("1.2", f"{p}: no body", post(p), refused(400, "missing request body"))
        for p in ENDPOINTS
    ),
    row("1.2", "delete: no body", delete("/api/delete"), refused(400, "missing request body")),
    row("1.2", "blanks alone", post("/api/chat", " \n\t "), refused(400, "missing request body")),
    row(
        "1.2",
        "no body and no length",
        post("/api/generate", None),
        refused(400, "missing request body"),
    ),
    row("1.2", "a brace alone", post("/api/generate", "{"), refused(400, "unexpected EOF")),
    row(
        "1.2",
        "a document that ends early",
        post("/api/chat", '{"model":"plain","messages":[{"ro'),
        refused(400, "unexpected EOF"),
    ),
    row(
        "1.2",
        "no JSON, like null",
        post("/api/chat", "not json"),
        refused(400, "invalid character 'o' in literal null (expecting 'u')"),
    ),
    row(
        "1.2",
        "no JSON at all",
        post("/api/show", "xyz"),
        refused(400, "invalid character 'x' looking for beginning of value"),
    ),
    row(
        "1.2",
        "a comma too many",
        post("/api/chat", '{"model":"plain",}'),
        refused(400, "invalid character '}' looking for beginning of object key string"),
    ),
    row("1.2", "null is {} (chat)", post("/api/chat", "null"), refused(400, "model is required")),
    row(
        "1.2",
        "null is {} (generate)",
        post("/api/generate", "null"),
        refused(404, "model '' not found"),
    ),
    *(
        row(
            "1.2",
            f"{path}: a list",
            post(path, "[]"),
            refused(400, f"json: cannot unmarshal array into Go value of type api.{name}"),
        )
        for path, name in ENDPOINTS.items()
    ),
    row(
        "1.2",
        "delete: a string",
        delete("/api/delete", '"x"'),
        refused(400, "json: cannot unmarshal string into Go value of type api.DeleteRequest"),
    ),
    row(
        "1.2",
        "a number",
        post("/api/generate", "1"),
        refused(400, "json: cannot unmarshal number into Go value of type api.GenerateRequest"),
    ),
    *(
        row("1.2", f"{path}: {json.dumps(body)}", post(path, body), refused(400, text))
        for path, body, text in WRONG_TYPES
    ),
    row("1.2", "text after the value", post("/api/generate", LOAD + " and more"), LOADED),
    row("1.2", "a second value", post("/api/generate", LOAD + '{"model":"nope"}'), LOADED),
    row("1.2", "unknown fields", whole("/api/generate", model="plain", nope={"a": [1]}), LOADED),
    row(
        "1.2",
        "names in capitals",
        post("/api/generate", '{"MODEL":"plain","Stream":false}'),
        LOADED,
    ),
    row(
        "1.2",
        "names in capitals, inside",
        post(
            "/api/chat",
            {"Model": "plain", "STREAM": False, "Messages": [{"Role": "user", "CONTENT": "hi"}]},
        ),
        chat("plain", "Hello."),
    ),
    *(
        row(
            "1.2",
            f"null for {name}",
            whole("/api/generate", model="plain", **{name: None} | {"stream": False}),
            LOADED,
        )
        for name in NULLS
        if name != "stream"
    ),
    row(
        "1.2",
        "null for stream is a stream",
        post("/api/chat", _message(content="hi") | {"stream": None}),
        chat_stream("plain", "Hello."),
    ),
    row(
        "1.2",
        "null for a message's content",
        whole("/api/chat", **_message(content=None)),
        chat("plain", "Hello."),
    ),
    row(
        "1.2",
        "the last of two keys counts",
        post("/api/generate", '{"model":"nope","model":"plain","stream":true,"stream":false}'),
        LOADED,
    ),
    row(
        "1.2",
        "an image that is a data URI",
        post("/api/chat", _message(content="hi", images=["data:image/png;base64,AAAA"])),
        refused(400, BAD_IMAGE.format(4)),
    ),
    row(
        "1.2",
        "an image that is no base64",
        post("/api/generate", {"model": "plain", "prompt": "hi", "images": ["!!!!"]}),
        refused(400, BAD_IMAGE.format(0)),
    ),
    row(
        "1.2",
        "an image that is base64 for URLs",
        post("/api/generate", {"model": "plain", "prompt": "hi", "images": ["ab-_"]}),
        refused(400, BAD_IMAGE.format(2)),
    ),
    row(
        "1.2",
        "arguments of a call as a string",
        post(
            "/api/chat",
            _message(content="", tool_calls=[{"function": {"name": "f", "arguments": '{"a":1}'}}]),
        ),
        refused(400, "Value looks like object, but can't find closing '}' symbol"),
    ),
    *(
        row(
            "1.2",
            f"content-type {kind or 'missing'}",
            post("/api/generate", LOAD, headers={"Content-Type": kind} if kind else {}),
            LOADED,
        )
        for kind in (
            "",
            "application/json",
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data",
            "nonsense",
        )
    ),
    row(
        "1.2",
        "a delete of any type",
        delete("/api/delete", {"model": "nope"}, headers={"Content-Type": "text/plain"}),
        refused(404, "model 'nope' not found"),
    ),
    row(
        "1.2",
        "accept is ignored",
        post("/api/generate", LOAD, headers={"Accept": "text/html"}),
        LOADED,
    ),
    row(
        "1.2",
        "an empty bearer is ignored",
        post("/api/generate", LOAD, headers={"Authorization": "Bearer "}),
        LOADED,
    ),
    row(
        "1.2",
        "authorization is ignored",
        get("/api/version", headers={"Authorization": "Bearer sk-anything"}),
        answered(Partial({})),
    ),
    row("1.2", "a body in chunks", post("/api/generate", LOAD, chunked=True), LOADED),
    row(
        "1.3",
        "HTML is escaped",
        whole("/api/chat", **_message(content="markup")),
        also(chat("plain", MARKUP), r"\u003cb\u003ebold\u003c/b\u003e \u0026 more"),
    ),
    row(
        "1.3",
        "HTML is escaped in a stream",
        post("/api/chat", _message(content="markup")),
        also(chat_stream("plain", MARKUP), r"\u003c"),
    ),
    row(
        "1.3",
        "HTML is escaped in an error",
        post("/api/chat", {"model": "<&>"}),
        refused(400, "invalid model name"),
    ),
    row(
        "1.3",
        "HTML is escaped in an error that repeats it",
        post("/api/copy", {"source": "<&>", "destination": "x"}),
        also(refused(400, 'source "<&>" is invalid'), r"\u003c\u0026\u003e"),
    ),
    row(
        "1.3",
        "other characters are UTF-8",
        whole("/api/generate", model="plain", prompt="forecast"),
        also(generated("plain", SENTENCE), SENTENCE),
    ),
    row(
        "1.3",
        "other characters are UTF-8 in a stream",
        post("/api/chat", _message(content="forecast")),
        also(chat_stream("plain", SENTENCE), "á"),
    ),
    row(
        "1.3",
        "an error has a length",
        post("/api/chat"),
        also(
            refused(400, "missing request body"),
            content_length=Match(r"\d+"),
            content_type="application/json; charset=utf-8",
        ),
    ),
    row(
        "1.3",
        "a stream is in chunks and JSON lines",
        post("/api/chat", _message(content="hi")),
        also(
            chat_stream("plain", "Hello."),
            content_type="application/x-ndjson",
            content_length=ABSENT,
            transfer_encoding="chunked",
        ),
    ),
)
