"""What takes a key, over every path of contract 1.1; and refusals in the caller's dialect (1.5)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_gateway.dialects import routes
from rkllama_gateway.dialects.access import (
    MISSING,
    NOT_ADMIN,
    UNKNOWN,
    Refusal,
    judge,
    needed,
    sent_keys,
)
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.refusing import refusal_body
from rkllama_service.keys import Auth, Scope

FREE = ["/", "/livez", "/readyz"]
ASKING = [
    "/metrics", "/openapi.json", "/api/version", "/api/tags", "/api/status", "/api/ps", "/api/generate", "/api/chat",
    "/api/embed", "/api/embeddings", "/api/show", "/api/me", "/api/experimental/web_search",
    "/api/experimental/web_fetch", "/api/experimental/model-recommendations",
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/audio/transcriptions", "/v1/models", "/v1/models/{model}",
]  # fmt: skip
MANAGING = [
    "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/verify", "/api/drain",
    "/api/blobs/{digest}", "/api/debug", "/api/signout", "/api/user/keys/{key}",
]  # fmt: skip
NOWHERE = [
    "", "*", "/api", "/api/", "/api/models", "/api/pull/", "/API/pull", "//api/pull", "/api/blobs/",
    "/api/blobs/a/b", "/v1", "/v1/", "/v1/messages/batches", "/v1/models/a/b", "/health",
]  # fmt: skip

TABLE = [
    (paths, auth, takes)
    for paths, off, admin, everything in (
        (FREE, None, None, None),
        (ASKING, None, None, Scope.INFER),
        (MANAGING, None, Scope.ADMIN, Scope.ADMIN),
        (NOWHERE, None, None, Scope.INFER),
    )
    for auth, takes in ((Auth.OFF, off), (Auth.ADMIN, admin), (Auth.ALL, everything))
]


@pytest.mark.parametrize(
    ("path", "auth", "takes"),
    [(path, auth, takes) for paths, auth, takes in TABLE for path in paths],
)
def test_every_path_takes_what_the_table_says(path: str, auth: Auth, takes: Scope | None) -> None:
    assert needed(auth, path.replace("{digest}", f"sha256:{'0' * 64}")) is takes


def test_the_table_has_every_route() -> None:
    """A new one has to be placed; until then it takes an admin key."""
    every = {*routes.ROUTES, *routes.OWN_PATHS}
    placed = {*FREE, *ASKING, *MANAGING}
    open_to_all = {path for path in every - placed if needed(Auth.ADMIN, path) is None}

    assert {path for path in open_to_all if not path.startswith("/v1/")} == set()
    assert placed - every == set()


@pytest.mark.parametrize(
    ("takes", "scope", "sent", "verdict"),
    [
        (None, None, False, None),
        (None, None, True, None),
        (None, Scope.INFER, True, None),
        (Scope.INFER, None, False, MISSING),
        (Scope.INFER, None, True, UNKNOWN),
        (Scope.INFER, Scope.INFER, True, None),
        (Scope.INFER, Scope.ADMIN, True, None),
        (Scope.ADMIN, None, False, MISSING),
        (Scope.ADMIN, None, True, UNKNOWN),
        (Scope.ADMIN, Scope.INFER, True, NOT_ADMIN),
        (Scope.ADMIN, Scope.ADMIN, True, None),
    ],
)
def test_who_is_let_in(
    takes: Scope | None, scope: Scope | None, sent: bool, verdict: Refusal | None
) -> None:
    assert judge(scope, takes=takes, sent=sent) is verdict


# ------------------------------------------------------------------------------ headers


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], []),
        ([("authorization", "Bearer k")], ["k"]),
        ([("authorization", "bearer k")], ["k"]),
        ([("authorization", "BEARER   k \t")], ["k"]),
        ([("authorization", "Bearer")], []),
        ([("authorization", "Bearer ")], []),
        ([("authorization", "")], []),
        ([("authorization", "k")], []),
        ([("authorization", "Basic azpr")], []),
        ([("authorization", "Bearerk")], []),
        ([("authorization", "Bearer a b")], ["a b"]),
        ([("x-api-key", "k")], ["k"]),
        ([("x-api-key", " k ")], ["k"]),
        ([("x-api-key", "")], []),
        ([("x-api-key", "Bearer k")], ["Bearer k"]),
        ([("authorization", "Bearer a"), ("x-api-key", "b")], ["a", "b"]),
        ([("authorization", "Basic a"), ("x-api-key", "b")], ["b"]),
        ([("x-authorization", "Bearer k"), ("cookie", "k"), ("api-key", "k")], []),
    ],
)
def test_both_headers_are_read(headers: list[tuple[str, str]], keys: list[str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers]

    assert sent_keys(raw) == tuple(key.encode() for key in keys)


@given(
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.sampled_from([b"Bearer", b"bearer", b"BEARER", b"bEaReR"]),
    st.integers(min_value=1, max_value=5),
    st.sampled_from([b"", b" ", b"\t"]),
)
def test_a_bearer_is_read_whatever_its_case_and_spaces(
    key: str, scheme: bytes, spaces: int, tail: bytes
) -> None:
    value = scheme + b" " * spaces + key.encode() + tail

    assert sent_keys([(b"authorization", value)]) == (key.encode(),)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"host"]), st.binary()),
        max_size=5,
    )
)
def test_any_bytes_can_stand_in_a_header(headers: list[tuple[bytes, bytes]]) -> None:
    values = [value for name, value in headers if name != b"host"]

    found = sent_keys(headers)
    assert len(found) <= len(values)
    assert all(key and any(key in value for value in values) for key in found)


@given(st.binary(max_size=20))
def test_another_scheme_is_no_key(rest: bytes) -> None:
    assert sent_keys([(b"authorization", b"Basic " + rest)]) == ()


# ------------------------------------------------------------------------------ refusals


def told(refusal: Refusal) -> DialectError:
    return DialectError(refusal.status, refusal.message)


@pytest.mark.parametrize("path", ["/api/chat", "/api/pull", "/nope", "/", "/v1", "/v10/models"])
def test_ollamas_refusal_is_one_sentence(path: str) -> None:
    body = refusal_body(path, told(MISSING), request_id="0" * 24)

    assert body == b'{"error":"an API key is required"}'


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/m", "/v1/x", "/v1/messages2"])
@pytest.mark.parametrize("refusal", [MISSING, UNKNOWN, NOT_ADMIN])
def test_openais_refusal_is_its_envelope(path: str, refusal: Refusal) -> None:
    found = json.loads(refusal_body(path, told(refusal), request_id="0" * 24))

    error = {"message": refusal.message, "type": "api_error", "param": None, "code": None}
    assert found == {"error": error}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (MISSING, "authentication_error"),
        (UNKNOWN, "authentication_error"),
        (NOT_ADMIN, "permission_error"),
    ],
)
def test_anthropics_refusal_is_its_envelope(path: str, refusal: Refusal, kind: str) -> None:
    found = json.loads(refusal_body(path, told(refusal), request_id="0123456789abcdef01234567"))

    assert found == {
        "type": "error",
        "error": {"type": kind, "message": refusal.message},
        "request_id": "req_0123456789abcdef01234567",
    }


def test_a_refusal_names_its_challenge() -> None:
    """RFC 6750, section 3: no error code where no key was sent."""
    found = [(r.status, r.challenge) for r in (MISSING, UNKNOWN, NOT_ADMIN)]

    assert found == [
        (401, "Bearer"),
        (401, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="insufficient_scope", scope="admin"'),
    ]
