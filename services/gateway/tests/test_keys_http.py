"""Keys over a real socket: who is let in where, and how the others are told in their dialect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import ollama
import pytest
from rkllama_gateway.auth import Guard
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DIGEST = f"sha256:{'0' * 64}"
INVALID = {"error": "invalid API key"}
REQUIRED = {"error": "an API key is required"}
NOT_ADMIN = {"error": "this API key may not do that; it takes one with the scope 'admin'"}


@dataclass(frozen=True, kw_only=True)
class Door:
    """The keys of one gateway."""

    path: Path
    infer: str
    admin: str

    def guard(self, auth: Auth) -> Guard:
        """Looks at the file before every request."""
        return Guard(auth, self.path, recheck_s=0.0)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    path = tmp_path / "keys.json"
    infer = key_file.create(path, "bob", Scope.INFER, now=NOW)
    admin = key_file.create(path, "root", Scope.ADMIN, now=NOW)
    return Door(path=path, infer=infer, admin=admin)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


ASKING = [
    ("GET", "/api/version"),
    ("HEAD", "/api/version"),
    ("GET", "/api/ps"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/api/show"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("POST", "/v1/messages"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
    ("GET", "/api/chat"),
    ("POST", "/api/chat/"),
    ("OPTIONS", "/api/chat"),
]
MANAGING = [
    ("POST", "/api/pull"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("POST", "/api/push"),
    ("POST", "/api/verify"),
    ("DELETE", "/api/delete"),
    ("HEAD", f"/api/blobs/{DIGEST}"),
    ("POST", f"/api/blobs/{DIGEST}"),
]
FREE = [("GET", "/"), ("HEAD", "/"), ("GET", "/livez"), ("GET", "/readyz")]


async def let_in(on: Stage, method: str, path: str, key: str | None) -> bool:
    """Whether it gets past the keys; what comes then is another matter."""
    headers = {} if key is None else bearer(key)
    answer = await on.client.request(method, path, headers=headers)
    return answer.status_code not in (401, 403)


@pytest.mark.parametrize(
    ("auth", "nobody", "infer"),
    [
        (Auth.OFF, FREE + ASKING + MANAGING, FREE + ASKING + MANAGING),
        (Auth.ADMIN, FREE + ASKING, FREE + ASKING),
        (Auth.ALL, FREE, FREE + ASKING),
    ],
)
async def test_who_is_let_in_where(
    stage: Staged,
    door: Door,
    auth: Auth,
    nobody: list[tuple[str, str]],
    infer: list[tuple[str, str]],
) -> None:
    async with stage(workers=0, guard=door.guard(auth)) as on:
        for method, path in FREE + ASKING + MANAGING:
            request = (method, path)
            assert await let_in(on, method, path, None) is (request in nobody), request
            assert await let_in(on, method, path, "rk-wrong") is (request in nobody), request
            assert await let_in(on, method, path, door.infer) is (request in infer), request
            assert await let_in(on, method, path, door.admin), request


@pytest.mark.parametrize(
    ("key", "status", "challenge", "body"),
    [
        (None, 401, "Bearer", REQUIRED),
        ("wrong", 401, 'Bearer error="invalid_token"', INVALID),
        ("infer", 403, 'Bearer error="insufficient_scope", scope="admin"', NOT_ADMIN),
    ],
)
async def test_a_refusal_says_why(
    stage: Staged, door: Door, key: str | None, status: int, challenge: str, body: dict[str, str]
) -> None:
    headers = {} if key is None else bearer({"infer": door.infer}.get(key, key))
    async with stage(workers=0, guard=door.guard(Auth.ADMIN)) as on:
        answer = await on.client.post("/api/pull", json={"model": "m"}, headers=headers)

    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["www-authenticate"] == challenge
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_every_dialect_has_its_envelope(stage: Staged, door: Door) -> None:
    """Contract 1.5."""
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        native = await on.client.post("/api/chat", json={})
        openai = await on.client.post("/v1/chat/completions", json={})
        anthropic = await on.client.post("/v1/messages", json={}, headers={"x-api-key": "k"})
        head = await on.client.head("/api/tags")

    assert [a.status_code for a in (native, openai, anthropic, head)] == [401] * 4
    assert native.json() == REQUIRED
    assert openai.json()["error"]["message"] == "an API key is required"
    assert anthropic.json()["error"] == {
        "type": "authentication_error",
        "message": "invalid API key",
    }
    assert anthropic.json()["request_id"].startswith("req_")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(native.content))


@pytest.mark.parametrize("form", ["bearer", "x-api-key", "both"])
async def test_a_key_is_read_from_either_header(stage: Staged, door: Door, form: str) -> None:
    headers = {
        "bearer": {"AUTHORIZATION": f"bearer {door.infer}"},
        "x-api-key": {"X-Api-Key": door.infer},
        "both": {"Authorization": "Bearer dummy", "X-Api-Key": door.infer},
    }[form]
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        assert (await on.client.get("/api/version", headers=headers)).status_code == 200


async def test_a_key_counts_from_when_it_is_made_to_when_it_is_revoked(
    stage: Staged, door: Door
) -> None:
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        late = key_file.create(door.path, "late", Scope.INFER, now=NOW)
        assert await let_in(on, "GET", "/api/tags", late)

        key_file.revoke(door.path, "late")
        answer = await on.client.get("/api/version", headers=bearer(late))
        assert (answer.status_code, answer.json()) == (401, INVALID)
        assert await let_in(on, "GET", "/api/version", door.infer)


async def test_an_answer_that_has_begun_is_finished_though_its_key_is_revoked(
    stage: Staged, door: Door
) -> None:
    async with stage(guard=door.guard(Auth.ALL)) as on:
        on.client.headers.update(bearer(door.infer))
        asked = on.chat(stream=False)
        attempt = await on.worker.take()
        key_file.revoke(door.path, "bob")
        assert not await let_in(on, "GET", "/api/version", door.infer)
        await attempt.say("yes")

        assert (await asked).json()["message"]["content"] == "yes"


async def test_a_missing_file_opens_no_door(stage: Staged, door: Door) -> None:
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        door.path.unlink()

        assert not await let_in(on, "GET", "/api/version", None)
        assert not await let_in(on, "GET", "/api/version", door.admin)
        assert await let_in(on, "GET", "/readyz", None)


# ------------------------------------------------------------------------------ order


async def test_a_preflight_needs_no_key_and_a_refusal_can_be_read_by_the_page(
    stage: Staged, door: Door
) -> None:
    """Contract 1.11; a browser sends no key with a preflight, and hides answers without CORS headers."""
    origin = {"Origin": "http://localhost:3000"}
    asks = {"Access-Control-Request-Method": "POST"}
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        preflight = await on.client.options("/api/pull", headers=origin | asks)
        refused = await on.client.post("/api/chat", json={}, headers=origin)

    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize("name", ["Origin", "Host"])
async def test_a_key_does_not_help_a_strange_page(stage: Staged, door: Door, name: str) -> None:
    """Contract 1.11: origins and hosts come first, with their empty 403."""
    headers = bearer(door.admin) | {name: "http://evil.com" if name == "Origin" else "evil.com"}
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        answer = await on.client.get("/api/version", headers=headers)

    assert (answer.status_code, answer.content) == (403, b"")


async def test_without_a_key_nobody_learns_which_paths_there_are(stage: Staged, door: Door) -> None:
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        unknown = await on.client.get("/nothing")
        known = await on.client.get("/api/tags")
        told = await on.client.get("/nothing", headers=bearer(door.infer))

    assert (unknown.status_code, unknown.content) == (known.status_code, known.content)
    assert (told.status_code, told.text) == (404, "404 page not found")


# ------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("path", [f"/api/blobs/{DIGEST}", "/api/create"])
async def test_a_client_that_uploads_without_a_key_is_told(
    stage: Staged, door: Door, path: str, *, counted: bool
) -> None:
    """It reads only when all is sent: the rest is thrown away, and the connection closed."""
    body = b" " * 2**24
    async with stage(workers=0, guard=door.guard(Auth.ADMIN)) as on:
        answer = await on.client.post(path, content=body if counted else _pieces(body))

    assert (answer.status_code, answer.json()) == (401, REQUIRED)
    assert answer.headers["connection"] == "close"


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 2**16):
        yield body[at : at + 2**16]


async def test_a_client_that_waits_to_be_asked_for_its_body_is_never_asked(
    stage: Staged, door: Door
) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body."""
    async with stage(workers=0, guard=door.guard(Auth.ADMIN)) as on:
        reader, writer = await asyncio.open_connection(on.host, on.port)
        head = f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n"
        writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(json.dumps(REQUIRED, separators=(",", ":")).encode())


async def test_a_refusal_without_a_body_keeps_the_connection(stage: Staged, door: Door) -> None:
    async with stage(workers=0, guard=door.guard(Auth.ALL)) as on:
        reader, writer = await asyncio.open_connection(on.host, on.port)
        for _ in range(2):
            writer.write(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
            await reader.readuntil(b"}")
        writer.close()


# ------------------------------------------------------------------------------ clients


async def test_ollamas_client_sends_its_key(
    stage: Staged, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", door.infer)
    async with (
        stage(guard=door.guard(Auth.ALL)) as on,
        ollama.AsyncClient(host=str(on.client.base_url), trust_env=False) as client,
    ):
        asked = on.tasks.create_task(_ask(client))
        await (await on.worker.take()).say("yes")
        said = await asked
        with pytest.raises(ollama.ResponseError) as refused:
            await client.delete("m")

    assert said == ["yes", ""]
    assert (refused.value.status_code, refused.value.error) == (403, NOT_ADMIN["error"])


async def _ask(client: ollama.AsyncClient) -> list[str | None]:
    messages = [{"role": "user", "content": "hi"}]
    parts = await client.chat("m", messages, stream=True)
    return [part.message.content async for part in parts]


@pytest.mark.parametrize("key", ["", "rk-wrong"])
async def test_ollamas_client_without_a_key_gets_its_own_error(
    stage: Staged, door: Door, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Also where it streams: the refusal has a status of its own."""
    monkeypatch.setenv("OLLAMA_API_KEY", key)
    async with (
        stage(workers=0, guard=door.guard(Auth.ALL)) as on,
        ollama.AsyncClient(host=str(on.client.base_url), trust_env=False) as client,
    ):
        with pytest.raises(ollama.ResponseError) as streaming:
            await _ask(client)
        with pytest.raises(ollama.ResponseError) as listing:
            await client.list()

    error = INVALID["error"] if key else REQUIRED["error"]
    for refused in (streaming, listing):
        assert (refused.value.status_code, refused.value.error) == (401, error)


async def test_off_ignores_every_key(stage: Staged, door: Door) -> None:
    """Contract 1.2: clients send dummies."""
    async with stage(workers=0, guard=door.guard(Auth.OFF)) as on:
        for headers in ({}, {"Authorization": "Bearer"}, bearer("dummy"), {"x-api-key": "dummy"}):
            answer = await on.client.get("/api/version", headers=headers)

            assert answer.status_code == httpx2.codes.OK
