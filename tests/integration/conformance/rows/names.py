"""Names: their grammar, their case, how they are shown, and the cloud's (contract 1.6, 2.20)."""

from __future__ import annotations

from tests.integration.conformance.matching import Partial, has
from tests.integration.conformance.rows.errors import FULL, INVALID, asking
from tests.integration.conformance.shapes import (
    answered,
    chat,
    empty,
    generated,
    loaded,
    refused,
)
from tests.integration.conformance.table import Row, get, post, row, then

ROWS: tuple[Row, ...] = (
    *(
        row(
            "1.6",
            f"{typed!r} is plain",
            post("/api/generate", {"model": typed, "stream": False}),
            loaded("generate", typed),
        )
        for typed in (
            "plain",
            "plain:latest",
            "PLAIN",
            "Plain:LATEST",
            "  plain ",
            "library/plain",
            FULL,
            "https://registry.ollama.ai/library/plain",
            "plain:local",
            "plain:latest:local",
            "plain:LOCAL",
        )
    ),
    row(
        "1.6",
        "answers repeat the name (chat)",
        post("/api/chat", asking("/api/chat", model="PLAIN:Latest")),
        chat("PLAIN:Latest", "Hello."),
    ),
    row(
        "1.6",
        "answers repeat the name (generate)",
        post("/api/generate", asking("/api/generate", model=FULL)),
        generated(FULL, "Hello."),
    ),
    row(
        "1.6",
        "case does not matter for embeddings",
        post("/api/embeddings", {"model": "EMB", "prompt": ""}),
        answered({"embedding": []}),
    ),
    row(
        "1.6",
        "80 characters are a name",
        post("/api/generate", {"model": "a" * 80}),
        refused(404, f"model '{'a' * 80}' not found"),
    ),
    row(
        "1.6",
        "the colon of a port is no tag's",
        post("/api/generate", {"model": "host:5000/ns/m"}),
        refused(404, "model 'host:5000/ns/m' not found"),
    ),
    row(
        "1.6",
        "a namespace has no dot",
        post("/api/generate", {"model": "n.s/m"}),
        refused(400, INVALID),
    ),
    row(
        "1.6",
        "a name may have dots and dashes",
        post("/api/generate", {"model": "_a.b-c_1"}),
        refused(404, "model '_a.b-c_1' not found"),
    ),
    row(
        "1.6",
        "other servers' models are shown whole",
        post("/api/show", {"model": "~own~.example/ns/m"}),
        answered(Partial({"details": Partial({})})),
        before=(post("/api/copy", {"source": "plain", "destination": "~own~.example/ns/m"}),),
        after=(
            then(
                post("/api/show", {"model": "ns/m"}), refused(404, "model 'ns/m:latest' not found")
            ),
        ),
    ),
    row(
        "1.6",
        "the shortest form is listed",
        post(
            "/api/copy",
            {
                "source": "registry.ollama.ai/library/plain",
                "destination": "registry.ollama.ai/~own~/m",
            },
        ),
        empty(),
        after=(
            then(
                get("/api/tags"),
                answered(
                    {"models": has(Partial({"name": "~own~/m:latest", "model": "~own~/m:latest"}))}
                ),
            ),
        ),
    ),
    *(
        row(
            "2.20",
            f"{path}: {name}",
            post(path, asking(path, model=name)),
            refused(403, "ollama cloud is disabled: remote model is unavailable"),
        )
        for path, name in (
            ("/api/generate", "x:cloud"),
            ("/api/chat", "x:1b-cloud"),
            ("/api/chat", "x:CLOUD"),
            ("/api/embed", "x:cloud"),
        )
    ),
    row(
        "2.20",
        "show",
        post("/api/show", {"model": "x:cloud"}),
        refused(403, "ollama cloud is disabled: remote model details are unavailable"),
    ),
    row(
        "1.6",
        "blanks are trimmed (chat)",
        post("/api/chat", asking("/api/chat", model=" plain\t")),
        chat(" plain\t", "Hello."),
    ),
    row(
        "1.6",
        "blanks are trimmed (embed)",
        post("/api/embed", {"model": " emb "}),
        answered({"model": " emb ", "embeddings": []}),
    ),
    row(
        "1.6",
        "blanks are trimmed (show)",
        post("/api/show", {"model": " plain "}),
        answered(Partial({"details": Partial({})})),
    ),
    row(
        "1.6",
        "blanks are not trimmed (copy)",
        post("/api/copy", {"source": " plain ", "destination": "x"}),
        refused(400, 'source " plain " is invalid'),
    ),
)
