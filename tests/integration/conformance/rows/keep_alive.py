"""How long models stay (contract 1.7), and what may be changed by it in the list of loaded models."""

from __future__ import annotations

from typing import Literal

from tests.integration.conformance.matching import In, Lacks, Match, Partial, has
from tests.integration.conformance.rows.errors import INFERENCE, asking
from tests.integration.conformance.shapes import answered, chat, loaded, refused
from tests.integration.conformance.table import Request, Row, Step, get, post, row, then, whole

FOREVER = Match(r"23\d\d-.*[+-]\d\d:\d\d")
"""The longest duration of Go, 292 years ahead."""


def made(**more: object) -> Request:
    """A model of the row's own, with weights of its own instance."""
    return whole("/api/create", model="~own~", **{"from": "plain", "system": "~own~", **more})


def loads(name: str, **more: object) -> Request:
    """A load."""
    return whole("/api/generate", model=name, **more)


def listed(name: str, expires_at: object) -> Step:
    """Then it is loaded, until then."""
    entry = Partial({"name": f"{name}:latest", "expires_at": expires_at})
    return then(get("/api/ps"), answered({"models": has(entry)}))


def gone(name: str) -> Step:
    """Then it is not loaded."""
    body = {"models": Lacks(Partial({"name": f"{name}:latest"}))}
    return then(get("/api/ps"), answered(body))


UNLOADING: tuple[tuple[Literal["generate", "chat"], tuple[object, ...]], ...] = (
    ("generate", (0, "0s")),
    ("chat", (0, "0")),
)
KEPT = (
    (10, 10), (90.5, 90.5), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("250ms250ms90s", 90.5),
    ("+2m", 120), ("100000us90s", 90.1), (3600, 3600), ("90000000\u00b5s", 90),
)  # fmt: skip
REFUSED = (
    ("bogus", 'time: invalid duration "bogus"'),
    ("5", 'time: missing unit in duration "5"'),
    ("1d", 'time: unknown unit "d" in duration "1d"'),
    ("", 'time: invalid duration ""'),
    (True, "Unsupported type: 'bool'"),
    ([5], Match(r"Unsupported type: '.*'")),
    ({"s": 5}, Match(r"Unsupported type: '.*'")),
)

ROWS: tuple[Row, ...] = (
    *(
        row(
            "1.7",
            f"{value!r}",
            loads("plain", keep_alive=value),
            loaded("generate", "plain"),
            after=(listed("plain", In(seconds, slack_s=5)),),
        )
        for value, seconds in KEPT
    ),
    *(
        row(
            "1.7",
            f"{value!r} is for ever",
            loads("plain", keep_alive=value),
            loaded("generate", "plain"),
            after=(listed("plain", FOREVER),),
        )
        for value in (-1, "-1m", -0.5)
    ),
    *(
        row(
            "1.7",
            f"{path}: {value!r}",
            post(path, asking(path, keep_alive=value)),
            refused(400, text),
        )
        for path in INFERENCE
        for value, text in (REFUSED if path == "/api/chat" else REFUSED[:5:2])
    ),
    row(
        "1.7",
        "five minutes, if nothing is said",
        post("/api/generate", {"model": "~own~"}),
        loaded("generate", "~own~"),
        before=(made(),),
        after=(listed("~own~", In(300)),),
    ),
    row(
        "1.7",
        "null is nothing said",
        whole("/api/chat", model="~own~", keep_alive=None),
        loaded("chat", "~own~"),
        before=(made(),),
        after=(listed("~own~", In(300)),),
    ),
    row(
        "1.7",
        "a request replaces what was said before",
        whole("/api/chat", **asking("/api/chat", keep_alive="20m")),
        chat("plain", "Hello."),
        before=(loads("plain", keep_alive="1h"),),
        after=(listed("plain", In(1200)),),
    ),
    row(
        "1.7",
        "a request that says nothing leaves it",
        whole("/api/chat", **asking("/api/chat")),
        chat("plain", "Hello."),
        before=(loads("plain", keep_alive="1h"),),
        after=(listed("plain", In(3600)),),
    ),
    row(
        "1.7",
        "a load that says nothing leaves it",
        loads("plain"),
        loaded("generate", "plain"),
        before=(loads("plain", keep_alive="1h"),),
        after=(listed("plain", In(3600)),),
    ),
    *(
        row(
            "1.7",
            f"{endpoint}: {value!r} with nothing to do unloads",
            post(f"/api/{endpoint}", {"model": "plain", "keep_alive": value}),
            loaded(endpoint, "plain", "unload"),
            before=(loads("plain"),),
            after=(gone("plain"),),
        )
        for endpoint, values in UNLOADING
        for value in values
    ),
    row(
        "1.7",
        "what is not loaded is unloaded too",
        post("/api/generate", {"model": "~own~", "keep_alive": 0}),
        loaded("generate", "~own~", "unload"),
        before=(made(),),
        after=(gone("~own~"),),
    ),
    row(
        "1.7",
        "0 with something to do unloads afterwards",
        whole("/api/chat", **asking("/api/chat", keep_alive=0)),
        chat("plain", "Hello."),
        after=(gone("plain"),),
    ),
    row(
        "1.7",
        "embed keeps too",
        post("/api/embed", {"model": "emb", "input": "x", "keep_alive": "30m"}),
        answered(Partial({"model": "emb"})),
        after=(listed("emb", In(1800)),),
    ),
    row(
        "1.7",
        "embeddings keeps too",
        post("/api/embeddings", {"model": "emb", "prompt": "x", "keep_alive": "40m"}),
        answered(Partial({})),
        after=(listed("emb", In(2400)),),
    ),
    row(
        "1.7",
        "embed unloads",
        post("/api/embed", {"model": "emb", "input": "x", "keep_alive": 0}),
        answered(Partial({"model": "emb"})),
        after=(gone("emb"),),
    ),
    row(
        "5",
        "OLLAMA_KEEP_ALIVE is the default",
        loads("smollm2:135m"),
        loaded("generate", "smollm2:135m"),
        after=(
            then(
                get("/api/ps"),
                answered({"models": has(Partial({"name": "smollm2:135m", "expires_at": In(420)}))}),
            ),
        ),
        on="cpu",
    ),
    row(
        "5",
        "OLLAMA_CONTEXT_LENGTH is the default",
        loads("smollm2:135m"),
        loaded("generate", "smollm2:135m"),
        after=(
            then(
                get("/api/ps"),
                answered(
                    {"models": has(Partial({"name": "smollm2:135m", "context_length": 1024}))}
                ),
            ),
        ),
        on="cpu",
    ),
)
