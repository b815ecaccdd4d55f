"""`/api/tags` and `/api/ps` (contract 2.4, 2.5), and digests (7)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from tests.integration.conformance.matching import (
    ABSENT,
    COUNT,
    HEX64,
    LOCAL,
    Each,
    Is,
    Maybe,
    Partial,
    both,
    has,
)
from tests.integration.conformance.rows.show import DETAILS
from tests.integration.conformance.shapes import ANY_OBJECT, ANY_TEXT, answered, loaded
from tests.integration.conformance.table import Row, get, post, row, then, whole

LENGTHS = {"context_length": 8192, "embedding_length": 8}
ANY_DETAILS = {
    "parent_model": ANY_TEXT,
    "format": Is("a format", lambda value: isinstance(value, str) and value != ""),
    "family": ANY_TEXT,
    "families": Is("a list or null", lambda value: value is None or isinstance(value, list)),
    "parameter_size": ANY_TEXT,
    "quantization_level": ANY_TEXT,
}
TAG = {
    "name": ANY_TEXT,
    "model": ANY_TEXT,
    "modified_at": LOCAL,
    "size": COUNT,
    "digest": HEX64,
    "details": ANY_DETAILS | {name: Maybe(COUNT) for name in LENGTHS},
    "capabilities": Maybe(Each(ANY_TEXT, least=1)),
}
LOADED = {
    "name": ANY_TEXT,
    "model": ANY_TEXT,
    "size": COUNT,
    "digest": HEX64,
    "details": ANY_DETAILS,
    "expires_at": LOCAL,
    "size_vram": COUNT,
    "context_length": COUNT,
}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text))


def descending(field: str, *, whole_seconds: bool) -> Is:
    """A list whose times do not rise."""

    def falls(models: list[dict[str, Any]]) -> bool:
        times = [_time(model[field]) for model in models]
        if whole_seconds:
            times = [time.replace(microsecond=0) for time in times]
        return times == sorted(times, reverse=True)

    return Is(f"sorted by {field}, the last first", falls)


def _named(models: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(model for model in models if model["name"] == name)


def digests(first: str, second: str, *, same: bool) -> Is:
    """A list where two models have the same digest, or not."""

    def agree(models: list[dict[str, Any]]) -> bool:
        pair = _named(models, first)["digest"], _named(models, second)["digest"]
        return (pair[0] == pair[1]) is same

    return Is(f"where {first} and {second} have {'one digest' if same else 'two digests'}", agree)


def _wholly_there(models: list[dict[str, Any]]) -> bool:
    return all(model["size_vram"] == model["size"] for model in models)


def tags(*expected: Any) -> Any:
    """The list, which is all of this."""
    return answered({"models": both(*expected)})


def made(**recipe: Any) -> Any:
    """A model of the row's own."""
    return whole("/api/create", model="~own~", **{"from": "plain", **recipe})


PLAIN = {**TAG, "name": "plain:latest", "model": "plain:latest", "capabilities": ["completion"]}
TAGS = get("/api/tags")

ROWS: tuple[Row, ...] = (
    row("2.4", "every model has this form", TAGS, tags(Each(TAG, least=5))),
    row("2.4", "a model", TAGS, tags(has({**PLAIN, "details": DETAILS | LENGTHS}))),
    row("2.4", "the last first", TAGS, tags(descending("modified_at", whole_seconds=True))),
    row("2.4", "a new model is among them", TAGS, tags(has(Partial({"name": "~own~:latest"}))), before=(made(),)),
    row("2.4", "nothing of the store's inside", TAGS, tags(Each(Partial({
        "expires_at": ABSENT, "full_name": ABSENT, "layers": ABSENT, "template": ABSENT})))),
    row("2.4", "capabilities as in show", TAGS, tags(has(
        Partial({"name": "tools:latest", "capabilities": ["completion", "tools"]}),
        Partial({"name": "emb:latest", "capabilities": ["embedding"]})))),
    row("2.4", "GET has no body to read", get("/api/tags", headers={"Content-Type": "application/json"}),
        tags(Each(ANY_OBJECT, least=5))),
    row("7", "a copy keeps the digest", TAGS, tags(digests("~own~:latest", "plain:latest", same=True)),
        before=(post("/api/copy", {"source": "plain", "destination": "~own~"}),)),
    row("7", "another parameter is another digest", TAGS, tags(digests("~own~:latest", "plain:latest", same=False)),
        before=(made(parameters={"top_k": 7}),)),
    row("7", "what is made alike is alike", TAGS, tags(digests("~own~:a", "~own~:b", same=True)),
        before=tuple(
            whole("/api/create", model=f"~own~:{tag}", **{"from": "plain", "parameters": {"top_k": 7}})
            for tag in "ab")),
    row("2.5", "a loaded model", get("/api/ps"), answered({"models": both(
        Each(LOADED, least=1), has(Partial({"name": "plain:latest", "model": "plain:latest"})))}),
        before=(post("/api/generate", {"model": "plain", "stream": False}),)),
    row("2.5", "what stays longest comes first", get("/api/ps"),
        answered({"models": descending("expires_at", whole_seconds=False)}), before=(
            post("/api/generate", {"model": "plain", "keep_alive": "2m"}),
            post("/api/generate", {"model": "voiced", "keep_alive": -1}),
            post("/api/embed", {"model": "emb", "keep_alive": "9m"}))),
    row("2.5", "on an NPU all of it is on the NPU", get("/api/ps"),
        answered({"models": Is("wholly on the accelerator", _wholly_there)}),
        before=(post("/api/generate", {"model": "plain", "stream": False}),)),
    row("2.5", "the digest is that of the list", get("/api/ps"), answered({"models": has(Partial({
        "name": "plain:latest", "details": {**DETAILS}}))}),
        before=(post("/api/generate", {"model": "plain"}),)),
    row("2.5", "the context's length", get("/api/ps"), answered({"models": has(Partial({
        "name": "short:latest", "context_length": Is("at most 96", lambda value: 0 < value <= 96)}))}),
        before=(post("/api/generate", {"model": "short"}),)),
    row("2.5", "on a CPU none of it is", get("/api/ps"), answered({"models": has({
        **LOADED, "name": "smollm2:135m", "size_vram": 0})}),
        before=(post("/api/generate", {"model": "smollm2:135m"}),), on="cpu"),
    row("1.10", "two names of one model share what is loaded", post("/api/generate", {"model": "~own~"}),
        loaded("generate", "~own~"), before=(
            post("/api/copy", {"source": "plain", "destination": "~own~"}),
            post("/api/generate", {"model": "plain", "keep_alive": 0}),
            post("/api/generate", {"model": "plain"})),
        after=(then(get("/api/ps"), answered({"models": both(
            has(Partial({"name": "plain:latest"})),
            Is("without a second name", lambda models: all(
                model["name"] != "~own~:latest" for model in models)))})),)),
)  # fmt: skip
