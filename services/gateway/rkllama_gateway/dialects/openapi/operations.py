"""The endpoints as the document has them: what goes in, what comes out, what it is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rkllama_gateway.dialects.anthropic import bodies as anthropic
from rkllama_gateway.dialects.gokinds import Kind
from rkllama_gateway.dialects.ollama import bodies
from rkllama_gateway.dialects.openai import bodies as openai
from rkllama_gateway.dialects.openapi import replies, requests

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
TEXT = "text/plain"
FORM = "multipart/form-data"
OPENAPI = "3.1.1"
ABOUT = (
    "Ollama's API for Rockchip NPUs. As with Ollama, the Content-Type of a request is not looked "
    "at, names of fields match in any case, unknown fields are ignored, and null is the same as "
    "nothing. A failure has a status, or is the last line of a stream that has begun."
)


FAULTS = {
    500: "A model, its files, or where it comes from failed.",
    501: "There is no registry to push to.",
    503: "It cannot be done now; `Retry-After` says when to ask again.",
    507: "There is no room left.",
}
RUN = (500, 503)
STORED = (503,)
CHANGED = (500, 503, 507)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    text: str
    body: Kind | None = None
    blob: bool = False
    """Any bytes are the body."""
    form: bool = False
    """A form with a file is the body."""
    reply: str = ""
    """Component that is the answer; empty: there is none but the status."""
    lines: bool = False
    """Whether the same comes line by line, if the request does not say `stream: false`."""
    events: bool = False
    """Whether it comes in server-sent events, if the request says `stream: true`."""
    plain: bool = False
    """The answer is text."""
    error: str = "Error"
    """Component that tells a failure."""
    status: int = 200
    """What it answers with when all goes well; from 400 on it never does."""
    also: tuple[tuple[int, str], ...] = ()
    """Other answers without a body that are no failure, and what they mean."""
    faults: tuple[int, ...] = ()
    """Failures that are the server's, from 500 on; it has no others."""


def _read(path: str, reply: str, text: str, *, faults: tuple[int, ...] = ()) -> Operation:
    return Operation(method="get", path=path, reply=reply, text=text, faults=faults)


def _openai(
    path: str, body: Kind | None, reply: str, text: str, *, events: bool = False
) -> Operation:
    return Operation(
        method="post" if body else "get",
        path=path,
        body=body,
        reply=reply,
        text=text,
        events=events,
        error="openai.Error",
        faults=RUN if body else STORED,
    )


def _asked(
    path: str,
    body: Kind,
    reply: str,
    text: str,
    *,
    lines: bool = False,
    faults: tuple[int, ...] = RUN,
) -> Operation:
    return Operation(
        method="post", path=path, body=body, reply=reply, text=text, lines=lines, faults=faults
    )


OPERATIONS = (
    Operation(
        method="get", path="/", plain=True, text="Says that the server is there.", faults=STORED
    ),
    Operation(method="head", path="/", text="The same without the words.", faults=STORED),
    _read("/api/version", "VersionReply", "The level of Ollama's API that is spoken."),
    Operation(method="head", path="/api/version", text="Headers of the same."),
    _read("/api/status", "StatusReply", "That there is no cloud behind this server."),
    _read("/api/tags", "TagsReply", "Every model, the newest first.", faults=STORED),
    Operation(method="head", path="/api/tags", text="Headers of the same.", faults=STORED),
    _read("/api/ps", "PsReply", "The models that are loaded, or being loaded."),
    _asked("/api/show", bodies.SHOW, "ShowReply", "Everything about a model."),
    _asked("/api/chat", bodies.CHAT, "ChatReply", "Goes on with a conversation.", lines=True),
    _asked("/api/generate", bodies.GENERATE, "GenerateReply", "Answers a prompt.", lines=True),
    _asked("/api/embed", bodies.EMBED, "EmbedReply", "Makes a vector of each text."),
    _asked("/api/embeddings", bodies.EMBEDDINGS, "EmbeddingReply", "The older form of the same."),
    _asked("/api/pull", bodies.PULL, "Progress", "Brings a model in.", lines=True, faults=CHANGED),
    _asked(
        "/api/push",
        bodies.PUSH,
        "Progress",
        "Fails: there is no registry.",
        lines=True,
        faults=(501, 503),
    ),
    _asked("/api/create", bodies.CREATE, "Progress", "Makes a model.", lines=True, faults=CHANGED),
    _asked(
        "/api/verify",
        bodies.VERIFY,
        "Progress",
        "rkllama's own: compares the files of models with their digests.",
        lines=True,
    ),
    _asked(
        "/api/drain",
        bodies.DRAIN,
        "",
        "rkllama's own: has a worker end, or hand over, what it runs, and stop.",
        faults=STORED,
    ),
    _asked("/api/copy", bodies.COPY, "", "Gives a model a second name.", faults=CHANGED),
    Operation(
        method="delete",
        path="/api/delete",
        body=bodies.DELETE,
        text="Takes a model's name away.",
        faults=CHANGED,
    ),
    Operation(
        method="head", path="/api/blobs/{digest}", text="Whether a blob is there.", faults=STORED
    ),
    Operation(
        method="post",
        path="/api/blobs/{digest}",
        blob=True,
        status=201,
        also=((200, "It was there before."),),
        text="Stores a blob under its digest.",
        faults=CHANGED,
    ),
    Operation(method="post", path="/api/me", status=503, text="Nobody has an account here."),
    Operation(method="post", path="/api/signout", status=503, text="The same."),
    Operation(method="delete", path="/api/user/keys/{key}", status=503, text="The same."),
    Operation(
        method="post",
        path="/api/experimental/web_search",
        status=403,
        text="There is no cloud behind this server.",
    ),
    Operation(method="post", path="/api/experimental/web_fetch", status=403, text="The same."),
    _read(
        "/api/experimental/model-recommendations", "RecommendationsReply", "None are recommended."
    ),
    _openai(
        "/v1/chat/completions",
        openai.CHAT,
        "openai.ChatCompletion",
        "OpenAI: goes on with a conversation.",
        events=True,
    ),
    _openai(
        "/v1/completions",
        openai.COMPLETION,
        "openai.Completion",
        "OpenAI: answers a prompt.",
        events=True,
    ),
    _openai(
        "/v1/embeddings",
        openai.EMBEDDING,
        "openai.Embeddings",
        "OpenAI: makes a vector of each text.",
    ),
    _openai(
        "/v1/responses",
        openai.RESPONSES,
        "openai.Response",
        "OpenAI: makes a response; nothing is kept of it.",
        events=True,
    ),
    Operation(
        method="post",
        path="/v1/audio/transcriptions",
        form=True,
        error="openai.Error",
        status=400,
        text="OpenAI: fails, for no model here hears.",
    ),
    _openai("/v1/models", None, "openai.Models", "OpenAI: every model."),
    _openai("/v1/models/{model}", None, "openai.Model", "OpenAI: one model."),
    Operation(
        method="post",
        path="/v1/messages",
        body=anthropic.MESSAGES,
        reply="anthropic.Message",
        events=True,
        error="anthropic.Error",
        faults=RUN,
        text="Anthropic: goes on with a conversation.",
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        body=anthropic.COUNT_TOKENS,
        reply="anthropic.TokenCount",
        error="anthropic.Error",
        faults=RUN,
        text="Anthropic: how many tokens the prompt of the same message has.",
    ),
    _read("/api/debug", "DebugReply", "How everything is now; only there with `--debug`."),
    Operation(method="get", path="/livez", plain=True, text="That the process lives."),
    Operation(
        method="get",
        path="/readyz",
        plain=True,
        text="Whether requests are welcome.",
        faults=STORED,
    ),
    Operation(method="get", path="/metrics", plain=True, text="Figures for Prometheus."),
    _read("/openapi.json", "Document", "This document."),
)


def document(*, version: str, operations: Iterable[Operation] = OPERATIONS) -> dict[str, Any]:
    """The OpenAPI document of a server of this version."""
    schemas: dict[str, Any] = {
        requests.OPTIONS: requests.options(),
        "Document": {"type": "object"},
        **replies.SCHEMAS,
    }
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        if each.body is not None:
            schemas |= requests.components(each.body)
        paths.setdefault(each.path, {})[each.method] = _described(each)
    return {
        "openapi": OPENAPI,
        "info": {"title": "rkllama", "version": version, "description": ABOUT},
        "servers": [{"url": "/"}],
        # A key is needed only where the server asks for one.
        "security": [{}, {"bearer": []}, {"header": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _id(operation),
        "summary": operation.text,
        "responses": _responses(operation),
    }
    if "{" in operation.path:
        name = operation.path.split("{")[1].rstrip("}")
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        described["parameters"] = [parameter]
    if operation.body is not None:
        schema = requests.ref(operation.body.schema["title"])
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if operation.blob:
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if operation.form:
        described["requestBody"] = {"required": True, "content": {FORM: {"schema": _FORM}}}
    return described


_FORM = {
    "type": "object",
    "required": ["model", "file"],
    "properties": {
        "model": {"type": "string"},
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
    },
}


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.reply:
        schema = requests.ref(operation.reply)
        content[JSON] = {"schema": schema}
        if operation.lines:
            content[NDJSON] = {"schema": schema}
        if operation.events:
            content[EVENTS] = {"schema": {"type": "string"}}
    elif operation.plain:
        content[TEXT] = {"schema": {"type": "string"}}
    done: dict[str, Any] = {"description": operation.text}
    failed = {
        "description": "It failed.",
        "content": {JSON: {"schema": requests.ref(operation.error)}},
    }
    if operation.plain:
        failed = {"description": "It failed.", "content": {TEXT: {"schema": {"type": "string"}}}}
    if operation.status >= 400:
        return {str(operation.status): failed | {"description": operation.text}, "default": failed}
    responses = {str(operation.status): done | ({"content": content} if content else {})}
    responses |= {str(status): {"description": text} for status, text in operation.also}
    faults = {str(code): failed | {"description": FAULTS[code]} for code in operation.faults}
    return responses | faults | {"default": failed}


def _id(operation: Operation) -> str:
    words = operation.path.strip("/").replace("{", "").replace("}", "").replace(".", "_")
    return f"{operation.method}_{words.replace('/', '_').replace('-', '_') or 'root'}"
