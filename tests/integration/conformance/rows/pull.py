"""`/api/pull` (contract 2.12), `/api/push` (2.13), accounts (2.18) and experiments (2.19)."""

from __future__ import annotations

from typing import Any

from tests.integration.conformance.matching import (
    COUNT,
    DIGEST,
    Ends,
    Is,
    Match,
    Maybe,
    Partial,
    both,
)
from tests.integration.conformance.shapes import (
    ANY_OBJECT,
    DONE,
    SUCCESS,
    answered,
    chat,
    failed,
    refused,
    streamed,
)
from tests.integration.conformance.system import WEIGHTS_NAME
from tests.integration.conformance.table import Row, delete, get, post, row, then, whole

TINY = f"acme/tiny/{WEIGHTS_NAME}/~own~"
"""Of the hub, under the row's own name."""
LAYER = {
    "status": Match("pulling [0-9a-f]{12}"),
    "digest": DIGEST,
    "total": COUNT,
    "completed": Maybe(COUNT),
}
VERIFYING, WRITING = {"status": "verifying sha256 digest"}, {"status": "writing manifest"}
UNUSED = {"status": "removing unused layers"}
MANIFEST = {"status": "pulling manifest"}
IGNORED = {"insecure": True, "username": "a", "password": "b"}
NOWHERE = "pull model manifest: file does not exist"


def _in_order(records: list[dict[str, Any]]) -> bool:
    """Manifest, layers, verifying, writing, perhaps removing, success."""
    rest = [record["status"] for record in records]
    layers = [
        status for status in rest if status.startswith("pulling ") and status != "pulling manifest"
    ]
    others = [status for status in rest if status not in layers and status != UNUSED["status"]]
    wanted = [one["status"] for one in (MANIFEST, VERIFYING, WRITING, SUCCESS)]
    return others == wanted and rest[0] == wanted[0] and rest[1 : 1 + len(layers)] == layers


def _named_by_digest(records: list[dict[str, Any]]) -> bool:
    layers = [record for record in records if "digest" in record]
    return all(
        one["status"].removeprefix("pulling ") == one["digest"].removeprefix("sha256:")[:12]
        and one.get("completed", 0) <= one["total"]
        for one in layers
    )


RECORDS = streamed(
    both(
        Is("in the order of a pull", _in_order),
        Is("layers named by their digests", _named_by_digest),
        Ends((SUCCESS,), before=Is("a record of a pull", lambda one: "status" in one)),
    )
)
HELLO = then(
    whole("/api/chat", model="~own~", messages=[{"role": "user", "content": "hi"}]),
    chat("~own~", "Hello."),
)
EXISTS = then(post("/api/show", {"model": "~own~"}), answered(Partial({"details": ANY_OBJECT})))
INVALID = refused(400, "invalid model name")
DISABLED = "ollama cloud is disabled: {} is unavailable"


def pulls(model: str, **more: Any) -> Any:
    """A pull, streamed."""
    return post("/api/pull", {"model": model, **more})


ROWS: tuple[Row, ...] = (
    row("2.12", "a pull", pulls(TINY), RECORDS, after=(HELLO,)),
    row("2.12", "a pull of what is there", pulls(TINY), RECORDS, before=(pulls(TINY),)),
    row("2.12", "a pull without a stream", pulls(TINY, stream=False), DONE, after=(EXISTS,)),
    row("2.12", "the old name of the name", post("/api/pull", {"name": TINY}), RECORDS, after=(EXISTS,)),
    row("2.12", "other fields do not matter", pulls(TINY, **IGNORED), RECORDS),
    row("2.12", "what is nowhere", pulls("nope"), streamed([MANIFEST, {"error": NOWHERE}])),
    row("2.12", "what is nowhere, without a stream", pulls("nope", stream=False), failed(500, NOWHERE)),
    row("2.12", "a tag that is nowhere", pulls("ns/nope:v1"), streamed([MANIFEST, {"error": NOWHERE}])),
    *(
        row("2.12", f"the name {name!r}", post("/api/pull", body), INVALID)
        for name, body in ((None, {}), ("", {"model": ""}), ("a b", {"model": "a b"}), ("x:", {"model": "x:"}))
    ),
    row("2.13", "a push of nothing", post("/api/push", {}), refused(400, "model is required")),
    row("2.13", "a push of an empty name", post("/api/push", {"name": "", "stream": False}),
        refused(400, "model is required")),
    row("2.18", "whose account", post("/api/me"), refused(503, "account unavailable")),
    row("2.18", "to sign out", post("/api/signout"), refused(503, "account unavailable")),
    row("2.18", "to sign out, the old way", delete("/api/user/keys/c3NoLWVk"), refused(503, "account unavailable")),
    *(
        row("2.19", f"{name}: no body", post(f"/api/experimental/{name}"), refused(400, "missing request body"))
        for name in ("web_search", "web_fetch")
    ),
    row("2.19", "web_search", post("/api/experimental/web_search", {"query": "x"}),
        refused(403, DISABLED.format("web search"))),
    row("2.19", "web_fetch", post("/api/experimental/web_fetch", {"url": "http://x"}),
        refused(403, DISABLED.format("web fetch"))),
    row("2.19", "recommendations", get("/api/experimental/model-recommendations"), answered({
        "recommendations": Is("a list of models", lambda found: isinstance(found, list) and all(
            isinstance(one.get("model"), str) and isinstance(one.get("description"), str) for one in found))})),
)  # fmt: skip
