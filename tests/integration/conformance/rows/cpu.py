"""What the emulator does not compute: probabilities, formats and seeds, by a small real model (contract 2.7, 2.8)."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.conformance.matching import (
    ABSENT,
    INT,
    NUMBER,
    Each,
    Is,
    Maybe,
    Partial,
    both,
)
from tests.integration.conformance.shapes import ANY_TEXT, answered, chat_stream, refused
from tests.integration.conformance.table import Row, post, row, whole

MODEL = "smollm2:135m"
GREEDY = {"temperature": 0, "seed": 1}
ENTRY = {"token": ANY_TEXT, "logprob": NUMBER, "bytes": Each(INT)}


def _spelt(entries: list[dict[str, Any]]) -> bool:
    """Bytes are those of the token; a token may be part of a character."""
    return all(
        bytes(one["bytes"]).decode(errors="replace") == one["token"] and one["logprob"] <= 0
        for one in entries
    )


def _falling(entries: list[dict[str, Any]]) -> bool:
    return all(
        [top["logprob"] for top in one["top_logprobs"]]
        == sorted((top["logprob"] for top in one["top_logprobs"]), reverse=True)
        for one in entries
    )


def _greedy(entries: list[dict[str, Any]]) -> bool:
    return all(one["top_logprobs"][0]["token"] == one["token"] for one in entries)


def logprobs(count: int, *, top: int = 0) -> Any:
    """So many entries, with so many alternatives each."""
    alternatives = {"top_logprobs": Each(ENTRY, least=top, most=top) if top else ABSENT}
    entries = Each(ENTRY | alternatives, least=count, most=count)
    spelt = Is("tokens with their bytes", _spelt)
    if not top:
        return both(entries, spelt)
    falling = Is("the likelier first", _falling)
    return both(entries, spelt, falling, Is("what was chosen first", _greedy))


def asks(endpoint: str, *, predict: int = 4, **more: Any) -> dict[str, Any]:
    """A request for a short greedy answer."""
    asked: dict[str, Any] = {"model": MODEL, "options": GREEDY | {"num_predict": predict}, **more}
    if endpoint == "chat":
        return asked | {"messages": [{"role": "user", "content": "Name three colours."}]}
    return asked | {"prompt": "Name three colours."}


def answers(endpoint: str, **more: Any) -> Any:
    """The same without a stream."""
    return whole(f"/api/{endpoint}", **asks(endpoint, **more))


def _is_json(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def _fits(text: Any) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        set(found) == {"ok", "size"}
        and found["ok"] in (True, False)
        and found["size"] in ("S", "L")
    )


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["S", "L"]}},
    "required": ["ok", "size"],
    "additionalProperties": False,
}
PERSON = {"messages": [{"role": "user", "content": "Give me a person as JSON."}]}
FITS = Is("what the schema allows", _fits)
JSON = Is("a JSON object", _is_json)

ROWS: tuple[Row, ...] = (
    *(
        row("2.7", f"{endpoint}: logprobs", answers(endpoint, logprobs=True),
            answered(Partial({"logprobs": logprobs(4), "eval_count": 4})), on="cpu")
        for endpoint in ("chat", "generate")
    ),
    *(
        row("2.7", f"{endpoint}: {top} top_logprobs", answers(endpoint, logprobs=True, top_logprobs=top),
            answered(Partial({"logprobs": logprobs(4, top=top)})), on="cpu")
        for endpoint, top in (("chat", 3), ("generate", 20), ("generate", 1))
    ),
    row("2.7", "top_logprobs alone", answers("chat", top_logprobs=3), answered(Partial({"logprobs": Maybe(None)})),
        on="cpu"),
    row("2.7", "no logprobs", answers("chat"), answered(Partial({"logprobs": ABSENT})), on="cpu"),
    row("2.7", "logprobs in a stream", post("/api/chat", asks("chat", logprobs=True, top_logprobs=2)),
        chat_stream(MODEL, Is("a text", bool), reason="length", logprobs=logprobs(4, top=2)), on="cpu"),
    row("2.8", "format json", whole("/api/chat", **(asks("chat", format="json", predict=99) | PERSON)),
        answered(Partial({"message": Partial({"content": JSON}), "done_reason": "stop"})), on="cpu"),
    # Where Ollama ends with `length`, half a document is an error here (ADR 11).
    row("2.8", "half a document", answers("chat", format=SCHEMA, predict=2),
        refused(400, Is("what was cut off", lambda text: "cut off after 2 tokens" in text)), on="cpu"),
    row("2.8", "a schema", answers("chat", format=SCHEMA, predict=60), answered(Partial({
        "message": Partial({"content": FITS}), "done_reason": "stop"})), on="cpu"),
    row("2.8", "a schema in a stream", post("/api/chat", asks("chat", format=SCHEMA, predict=60)),
        chat_stream(MODEL, FITS), on="cpu"),
    row("2.7", "a schema for generate", answers("generate", format=SCHEMA, predict=60), answered(Partial({
        "response": FITS, "done_reason": "stop"})), on="cpu"),
)  # fmt: skip
