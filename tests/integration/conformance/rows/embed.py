"""`/api/embed` and `/api/embeddings` (contract 2.10, 2.11)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.integration.conformance.matching import ABSENT, NS, NUMBER, Around, Each, Partial
from tests.integration.conformance.models import MODELS
from tests.integration.conformance.shapes import answered, refused
from tests.integration.conformance.table import Row, post, row

SCRIPT = MODELS["emb"].script


def raw(text: str) -> tuple[float, ...]:
    """What the model's pooling gives."""
    return tuple(SCRIPT.hidden_row(SCRIPT.tokenize(text)))


def unit(values: Sequence[float]) -> Around:
    """The same, of length 1."""
    length = math.sqrt(sum(value * value for value in values))
    return Around(tuple(value / length for value in values))


def embeds(value: Any, *, model: str = "emb", **more: Any) -> Any:
    """A request."""
    return post("/api/embed", {"model": model, "input": value, **more})


def vectors(*expected: Any, tokens: int, model: str = "emb") -> Any:
    """An answer."""
    return answered({
        "model": model, "embeddings": list(expected), "total_duration": NS, "load_duration": NS,
        "prompt_eval_count": tokens,
    })  # fmt: skip


NOTHING = answered({"model": "emb", "embeddings": []})
ONE, TWO, THREE = "one", "two", "a longer third"

ROWS: tuple[Row, ...] = (
    row("2.10", "a text", embeds(ONE), vectors(unit(raw(ONE)), tokens=3)),
    row("2.10", "a list of one", embeds([ONE]), vectors(unit(raw(ONE)), tokens=3)),
    row("2.10", "a list, in its order", embeds([THREE, ONE, TWO, ONE]), vectors(
        *(unit(raw(text)) for text in (THREE, ONE, TWO, ONE)), tokens=len(THREE) + 9)),
    *(
        row("2.10", f"{what} loads", post("/api/embed", {"model": "emb", **more}), NOTHING)
        for what, more in (
            ("nothing", {}), ("an empty text", {"input": ""}), ("an empty list", {"input": []}),
            ("null", {"input": None}),
        )
    ),
    *(
        row("2.10", f"input {value!r}", embeds(value), refused(400, "invalid input type"))
        for value in (1, True, {"a": 1}, [1], ["x", None], [["x"]])
    ),
    row("2.10", "fewer dimensions", embeds(ONE, dimensions=3), vectors(unit(raw(ONE)[:3]), tokens=3)),
    row("2.10", "one dimension", embeds(ONE, dimensions=1), vectors(unit(raw(ONE)[:1]), tokens=3)),
    *(
        row("2.10", f"{number} dimensions are all", embeds(ONE, dimensions=number),
            vectors(unit(raw(ONE)), tokens=3))
        for number in (0, -1, 8, 9, 4096)
    ),
    row("2.10", "the stream field is unknown", embeds(ONE, stream=True), vectors(unit(raw(ONE)), tokens=3)),
    row("2.10", "a model that talks", embeds(ONE, model="plain"), vectors(unit(raw(ONE)), tokens=3, model="plain")),
    row("2.10", "too long is cut", embeds("word " * 40, model="short"), answered(Partial({
        "embeddings": [Each(NUMBER, least=8)]}))),
    row("2.10", "too long and not to be cut", embeds("word " * 40, model="short", truncate=False),
        refused(400, "the input length exceeds the context length")),
    row("2.10", "one that is too long fails all", embeds([ONE, "word " * 40], model="short", truncate=False),
        refused(400, "the input length exceeds the context length")),
    row("2.10", "cut to fewer tokens than any context has", embeds(THREE, options={"num_ctx": 3}),
        vectors(unit(raw(THREE[:3])), tokens=3)),
    row("2.10", "more than that and not to be cut", embeds(THREE, options={"num_ctx": 3}, truncate=False),
        refused(400, "the input length exceeds the context length")),
    row("2.10", "nothing is left", embeds(THREE, options={"num_ctx": 0}),
        refused(400, "input after truncation exceeds maximum context length")),
    row("2.10", "an option of null", embeds(ONE, options={"num_ctx": None}), vectors(unit(raw(ONE)), tokens=3)),
    row("2.11", "a prompt", post("/api/embeddings", {"model": "emb", "prompt": ONE}),
        answered({"embedding": Around(raw(ONE))})),
    row("2.11", "another prompt", post("/api/embeddings", {"model": "emb", "prompt": "caf\u00e9"}),
        answered({"embedding": Around(raw("caf\u00e9"))})),
    *(
        row("2.11", f"{what} gives nothing", post("/api/embeddings", {"model": "emb", **more}),
            answered({"embedding": []}))
        for what, more in (("no prompt", {}), ("an empty prompt", {"prompt": ""}))
    ),
    row("2.11", "input is unknown", post("/api/embeddings", {"model": "emb", "input": ONE}),
        answered({"embedding": [], "model": ABSENT})),
    row("2.11", "a model that talks", post("/api/embeddings", {"model": "plain", "prompt": ONE}),
        answered({"embedding": Around(raw(ONE))})),
)  # fmt: skip
