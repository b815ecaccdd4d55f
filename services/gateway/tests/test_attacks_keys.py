"""Every operation of our own document, with no key, a wrong one, and one of too small a scope."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rkllama_gateway.auth import Guard
from rkllama_gateway.dialects.access import MISSING, NOT_ADMIN, UNKNOWN
from rkllama_gateway.dialects.openapi.operations import document
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FREE = {"/", "/livez", "/readyz"}
MANAGING = {
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/verify",
    "/api/drain",
    "/api/copy",
    "/api/delete",
    "/api/blobs/{digest}",
    "/api/signout",
    "/api/user/keys/{key}",
    "/api/debug",
}
OPERATIONS = sorted(
    (method.upper(), path)
    for path, methods in document(version="1")["paths"].items()
    for method in methods
)
BODY = b'{"model": "m", "source": "m", "destination": "n", "worker_id": "w0", "stream": false}'


def address(path: str) -> str:
    """A path with something in its braces."""
    values = {"digest": f"sha256:{'ab' * 32}", "key": "k", "model": "m"}
    return path.format(**values)


class Locked:
    """A stage that takes keys, and what a client can have of them."""

    def __init__(self, folder: Path) -> None:
        path = folder / "keys.json"
        self.infer = key_file.create(path, "small", Scope.INFER, now=NOW)
        self.admin = key_file.create(path, "big", Scope.ADMIN, now=NOW)
        self.guard = Guard(Auth.ALL, path)


@pytest.fixture
def locked(tmp_path: Path) -> Locked:
    return Locked(tmp_path)


async def told(on: Stage, method: str, path: str, key: str | None) -> tuple[int, str]:
    """Status, and the header that says why."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    content = BODY if method in ("POST", "DELETE") else None
    answer = await on.client.request(method, path, headers=headers, content=content)
    return answer.status_code, answer.headers.get("www-authenticate", "")


async def test_every_operation_asks_for_its_key(stage: Staged, locked: Locked) -> None:
    missing, unknown = (401, MISSING.challenge), (401, UNKNOWN.challenge)
    not_admin = (403, NOT_ADMIN.challenge)
    wrong = {}
    async with stage(workers=0, guard=locked.guard, debug=True, no_worker_s=0.1) as on:
        for method, path in OPERATIONS:
            where = address(path)
            none = await told(on, method, where, None)
            guessed = await told(on, method, where, f"rk-{'A' * 43}")
            small = await told(on, method, where, locked.infer)
            if path in FREE:
                right = none[1] == guessed[1] == small[1] == ""
            else:
                right = (none, guessed) == (missing, unknown)
                right = right and (small == not_admin) == (path in MANAGING)
            if not right:
                wrong[method, path] = (none, guessed, small)

        assert on.store.streams.empty()
    assert wrong == {}


async def test_the_right_key_opens_what_is_managed(stage: Staged, locked: Locked) -> None:
    async with stage(workers=0, guard=locked.guard, debug=True) as on:
        answers = [
            await told(on, "GET", "/api/debug", locked.admin),
            await told(on, "POST", "/api/copy", locked.admin),
        ]

    assert all(not challenge for _, challenge in answers)


@pytest.mark.parametrize(
    "path",
    [
        "/api/pull/",
        "//api/pull",
        "/api//pull",
        "/api/./pull",
        "/api/tags/../pull",
        "/api/tags/%2e%2e/pull",
        "/api/%70ull",
        "/api/pull%2f",
        "/api/pull%00",
        "/api/pull;x",
        "/API/PULL",
        "/v1/../api/pull",
        "/v1/%2e%2e/api/pull",
        "/api/pull?x=/v1/",
        "/livez/../api/pull",
    ],
)
async def test_no_other_way_of_writing_a_path_needs_less(
    stage: Staged, locked: Locked, path: str
) -> None:
    """Key and route are judged by the same path: whatever reaches the route has been asked for its key."""
    async with stage(workers=0, guard=locked.guard) as on:
        request = on.client.build_request(
            "POST", "/", headers={"authorization": f"Bearer {locked.infer}"}, content=BODY
        )
        request.extensions["target"] = path.encode()
        answer = await on.client.send(request)

        assert on.store.streams.empty()
    assert answer.status_code in (301, 307, 403, 404, 405)
