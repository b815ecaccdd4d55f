"""The master table of errors (contract 1.5), the order of checks, and names (1.6)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import ABSENT, Match, has
from tests.integration.conformance.shapes import (
    chat,
    failed,
    loaded,
    refused,
    streamed,
)
from tests.integration.conformance.table import Row, also, post, row, whole

HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
INFERENCE = ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings")
FULL = "registry.ollama.ai/library/plain:latest"
INVALID = "invalid model name"
BAD_NAMES = ("a b", "x:", "/x", ".x", "x@sha256:1", "a" * 81, "x:" + "t" * 81, "a/b/c/d", "-x")
THINK = 'invalid think value: "huge" (must be "high", "medium", "low", "max", true, or false)'
THINK_TYPE = 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
BUSY = "server busy, please try again.  maximum pending requests exceeded"


def asking(path: str, **more: Any) -> dict[str, Any]:
    """A request that would be answered."""
    body: dict[str, Any] = {"model": "plain", "stream": False}
    if path == "/api/chat":
        body["messages"] = HI
    elif path == "/api/embed":
        body["input"] = "hi"
    else:
        body["prompt"] = "hi"
    return body | more


REQUIRED = refused(400, "model is required")
NOBODY = refused(404, "model '' not found")
MISSING = {"/api/generate": NOBODY, "/api/chat": REQUIRED, "/api/embed": NOBODY}

ROWS: tuple[Row, ...] = (
    *(
        row("1.5", f"{path}: {what}", post(path, body), MISSING.get(path, REQUIRED))
        for path in INFERENCE
        for what, body in (("no model", {}), ("an empty model", {"model": ""}))
    ),
    *(
        row(
            "1.6",
            f"{path}: the name {name[:12]!r}",
            post(path, asking(path, model=name)),
            refused(400, INVALID),
        )
        for path, names in zip(
            INFERENCE, (BAD_NAMES, BAD_NAMES[:4], BAD_NAMES[4:6], BAD_NAMES[:2]), strict=True
        )
        for name in names
    ),
    row(
        "1.5",
        "generate: unknown",
        post("/api/generate", asking("/api/generate", model="nope")),
        refused(404, "model 'nope' not found"),
    ),
    row(
        "1.5",
        "chat: unknown",
        post("/api/chat", asking("/api/chat", model="Nope:x")),
        refused(404, "model 'Nope:x' not found"),
    ),
    row(
        "1.5",
        "embed: unknown",
        post("/api/embed", asking("/api/embed", model="nope")),
        refused(404, 'model "nope" not found, try pulling it first'),
    ),
    row(
        "1.5",
        "embeddings: unknown",
        post("/api/embeddings", asking("/api/embeddings", model="nope")),
        refused(404, 'model "nope" not found, try pulling it first'),
    ),
    row(
        "1.5",
        "unknown, and a stream wanted",
        post("/api/chat", {"model": "nope", "messages": HI}),
        refused(404, "model 'nope' not found"),
    ),
    *(
        row(
            "1.5",
            f"{path}: local and cloud at once",
            post(path, asking(path, model="plain:cloud:local")),
            refused(400, Match(r'use either :local or :cloud, not both: ".*"')),
        )
        for path in INFERENCE
    ),
    *(
        row(
            "1.5",
            f"{path}: an option of the wrong type",
            post(path, asking(path, options={"temperature": "hot"})),
            refused(500, 'option "temperature" must be of type float32'),
        )
        for path in INFERENCE
    ),
    *(
        row(
            "1.5",
            f"{path}: top_logprobs {number}",
            post(path, asking(path, top_logprobs=number)),
            refused(400, "top_logprobs must be between 0 and 20"),
        )
        for path in INFERENCE[:2]
        for number in (-1, 21)
    ),
    row(
        "1.5",
        "top_logprobs comes before the name",
        post("/api/chat", asking("/api/chat", model="a b", top_logprobs=99)),
        refused(400, "top_logprobs must be between 0 and 20"),
    ),
    row(
        "1.5",
        "embed: top_logprobs is ignored",
        post("/api/embed", asking("/api/embed", model="nope", top_logprobs=99)),
        refused(404, 'model "nope" not found, try pulling it first'),
    ),
    *(
        row(
            "1.5",
            f"{path}: think huge",
            post(path, asking(path, think="huge")),
            refused(400, THINK),
        )
        for path in INFERENCE[:2]
    ),
    *(
        row(
            "1.5",
            f"{path}: think {shown}",
            post(path, asking(path, think=value)),
            refused(400, THINK_TYPE),
        )
        for path, shown, value in (
            ("/api/generate", "a number", 1),
            ("/api/chat", "a number", 2),
            ("/api/chat", "a list", []),
        )
    ),
    *(
        row(
            "1.5",
            f"{path}: think is ignored",
            post(path, asking(path, model="nope", think="huge")),
            refused(404, 'model "nope" not found, try pulling it first'),
        )
        for path in INFERENCE[2:]
    ),
    *(
        row(
            "1.5",
            f"{path}: {name} cannot think ({think!r})",
            post(path, asking(path, model=name, think=think)),
            refused(400, f'"{name}" does not support thinking'),
        )
        for path, name, think in (
            ("/api/generate", "plain", True),
            ("/api/chat", "plain", "high"),
            ("/api/chat", "PLAIN:latest", True),
        )
    ),
    row(
        "1.5",
        "a model that cannot think is not asked to",
        post("/api/chat", asking("/api/chat", think=False)),
        chat("plain", "Hello."),
    ),
    row(
        "1.5",
        "generate: a model that embeds",
        post("/api/generate", asking("/api/generate", model="emb")),
        refused(400, '"emb" does not support generate'),
    ),
    row(
        "1.5",
        "chat: a model that embeds",
        post("/api/chat", asking("/api/chat", model="emb")),
        refused(400, '"emb" does not support chat'),
    ),
    row(
        "1.5",
        "thinking comes before what else it cannot",
        post("/api/chat", asking("/api/chat", think=True, tools=[TOOL])),
        refused(400, '"plain" does not support thinking'),
    ),
    row(
        "1.5",
        "tools",
        post("/api/chat", asking("/api/chat", tools=[TOOL])),
        refused(400, f"{FULL} does not support tools"),
    ),
    row(
        "1.5",
        "capabilities come before options",
        post("/api/chat", asking("/api/chat", tools=[TOOL], options={"top_k": "x"})),
        refused(400, f"{FULL} does not support tools"),
    ),
    row(
        "1.5",
        "no tools are none",
        post("/api/chat", asking("/api/chat", tools=[])),
        chat("plain", "Hello."),
    ),
    row(
        "1.5",
        "suffix",
        post("/api/generate", asking("/api/generate", suffix="x")),
        refused(400, f"{FULL} does not support insert"),
    ),
    *(
        row(
            "1.5",
            f"raw with {name}",
            post("/api/generate", asking("/api/generate", raw=True, **{name: value})),
            refused(400, "raw mode does not support template, system, or context"),
        )
        for name, value in (("template", "{{ .Prompt }}"), ("system", "x"), ("context", [1]))
    ),
    row(
        "1.5",
        "raw comes before thinking",
        post("/api/generate", asking("/api/generate", raw=True, system="x", think=True)),
        refused(400, "raw mode does not support template, system, or context"),
    ),
    row(
        "1.5",
        "existence comes before raw",
        post("/api/generate", asking("/api/generate", model="nope", raw=True, system="x")),
        refused(404, "model 'nope' not found"),
    ),
    row(
        "1.5",
        "unload comes before what it cannot",
        post("/api/generate", {"model": "emb", "keep_alive": 0, "think": True, "stream": False}),
        loaded("generate", "emb", "unload"),
    ),
    row(
        "1.5",
        "a template that is none",
        post("/api/generate", asking("/api/generate", template="{{ if }")),
        refused(500, Match("template: :1: .*")),
    ),
    *(
        row(
            "1.5",
            f"{path}: a format that is none",
            post(path, asking(path, format="xml")),
            refused(
                500, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'
            ),
        )
        for path in INFERENCE[:2]
    ),
    row(
        "1.5",
        "a format that is a list",
        post("/api/chat", asking("/api/chat", format=[1])),
        refused(500, 'invalid format: "[1]"; expected "json" or a valid JSON Schema object'),
    ),
    row(
        "1.5",
        "an empty format is none",
        post("/api/chat", asking("/api/chat", format="")),
        chat("plain", "Hello."),
    ),
    row(
        "1.5",
        "a runner that fails at the start of a stream",
        post("/api/chat", {"model": "refusing", "messages": HI}),
        failed(500, Match(".+")),
    ),
    row(
        "8",
        "images to a model without vision (chat)",
        post(
            "/api/chat",
            {"model": "plain", "messages": [{"role": "user", "content": "x", "images": ["AAAA"]}]},
        ),
        refused(400, f"{FULL} does not support vision"),
    ),
    row(
        "8",
        "images to a model without vision (generate)",
        post("/api/generate", asking("/api/generate", images=["AAAA"])),
        refused(400, f"{FULL} does not support vision"),
    ),
    row("1.5", "no field but the error", post("/api/chat", {}), also(REQUIRED, retry_after=ABSENT)),
    row(
        "1.5",
        "an answer that dies is told in its stream",
        post("/api/chat", {"model": "broken", "messages": [{"role": "user", "content": "BREAK"}]}),
        streamed(has({"error": Match(".+")})),
    ),
    row(
        "1.5",
        "an answer that dies is no answer",
        whole("/api/chat", model="broken", messages=[{"role": "user", "content": "BREAK"}]),
        refused(500, Match(".+")),
    ),
)
