"""Paths, methods, origins and hosts (contract 1.1, 1.11)."""

from __future__ import annotations

import pytest
from rkllama_gateway.dialects.hosts import (
    BUILT_IN_ORIGINS,
    host_allowed,
    judge_origin,
    origin_allowed,
    origins,
)
from rkllama_gateway.dialects.routes import allowed, redirect


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", ("HEAD", "GET")),
        ("/api/tags", ("HEAD", "GET")),
        ("/api/ps", ("GET",)),
        ("/api/chat", ("POST",)),
        ("/api/delete", ("DELETE",)),
        ("/api/blobs/sha256:1", ("HEAD", "POST")),
        ("/api/user/keys/k", ("DELETE",)),
        ("/v1/models", ("GET",)),
        ("/v1/models/name:tag", ("GET",)),
        ("/v1/models/ns/name:tag", ()),
        ("/v1/models/", ()),
        ("/api/blobs", ()),
        ("/api/blobs/{digest}", ("HEAD", "POST")),
        ("/api/models", ()),
        ("/api/chat/", ()),
        ("/health", ()),
        ("/v1/messages/count_tokens", ("POST",)),
        ("/v1/messages/batches", ()),
        ("", ()),
        ("api", ()),
    ],
)
def test_every_path_has_its_methods_or_is_unknown(path: str, methods: tuple[str, ...]) -> None:
    """Contract 1.1."""
    assert allowed(path) == methods


@pytest.mark.parametrize(
    ("path", "method", "target"),
    [
        ("/api/tags/", "GET", (301, "/api/tags")),
        ("/api/tags/", "HEAD", (307, "/api/tags")),
        ("/api/chat/", "POST", (307, "/api/chat")),
        ("/v1/models/", "GET", (301, "/v1/models")),
        ("/api/chat/", "GET", None),
        ("/api/chat", "POST", None),
        ("/nope/", "GET", None),
        ("/", "GET", None),
        ("//api/chat", "POST", (307, "/api/chat")),
        ("/api/tags//", "GET", (307, "/api/tags/")),
        ("/api/./x/../tags", "GET", (307, "/api/tags")),
        ("/../../nope", "GET", (307, "/nope")),
        ("//evil.example/..", "GET", (307, "/")),
        ("//", "PUT", (307, "/")),
        ("", "GET", (307, "/")),
    ],
)
def test_a_path_that_is_not_clean_is_redirected(
    path: str, method: str, target: tuple[int, str] | None
) -> None:
    """Contract 1.1."""
    assert redirect(path, method) == target


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:8443",
        "http://127.0.0.1:3000",
        "https://0.0.0.0",
        "app://obsidian.md",
        "vscode-webview://1x",
        "tauri://localhost",
    ],
)
def test_local_origins_are_always_allowed(origin: str) -> None:
    """Contract 1.11."""
    assert origin_allowed(origin, BUILT_IN_ORIGINS)


@pytest.mark.parametrize(
    "origin", ["http://example.com", "null", "chrome-extension://abc", "http://localhost.evil.com"]
)
def test_foreign_origins_are_refused_on_every_method(origin: str) -> None:
    """Contract 1.11: 403 with an empty body, where Starlette would say 400 or let pass."""
    for method in ("GET", "POST", "OPTIONS"):
        verdict = judge_origin(method, origin=origin, host="h")

        assert (verdict.status, verdict.headers) == (403, ())


@pytest.mark.parametrize("origin", ["", "http://box:11434", "https://box:11434"])
def test_no_origin_and_the_own_origin_need_no_headers(origin: str) -> None:
    verdict = judge_origin("OPTIONS", origin=origin, host="box:11434")

    assert (verdict.status, verdict.headers) == (0, ())


def test_configured_origins_are_added_to_the_built_in_ones() -> None:
    extra = ["https://*.example.com ", "chrome-extension://*"]

    verdict = judge_origin("POST", origin="https://a.example.com", host="h", extra=extra)

    assert verdict.status == 0
    assert verdict.headers == (
        ("Access-Control-Allow-Origin", "https://a.example.com"),
        ("Vary", "Origin"),
    )
    assert judge_origin("GET", origin="http://localhost", host="h", extra=extra).status == 0
    assert judge_origin("GET", origin="https://.com", host="h", extra=extra).status == 403


def test_origins_are_configured_as_a_list() -> None:
    assert origins(" https://a.example , app://*,,") == ("https://a.example", "app://*")
    assert origins("") == ()


def test_a_preflight_is_answered_for_any_path() -> None:
    verdict = judge_origin("OPTIONS", origin="http://localhost:1", host="h")

    assert verdict.status == 204
    assert dict(verdict.headers)["Access-Control-Allow-Methods"] == (
        "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    )
    assert dict(verdict.headers)["Access-Control-Max-Age"] == "43200"
    assert dict(verdict.headers)["Access-Control-Allow-Headers"] == (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
        "X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
        "X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
        "X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
        "X-Stainless-Runtime-Version,X-Stainless-Timeout"
    )
    assert [value for name, value in verdict.headers if name == "Vary"] == [
        "Origin",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
    ]


@pytest.mark.parametrize(("method", "status"), [("GET", 0), ("OPTIONS", 204)])
def test_a_star_allows_everybody_without_vary(method: str, status: int) -> None:
    verdict = judge_origin(method, origin="http://example.com", host="h", extra=["*"])

    assert verdict.status == status
    assert ("Access-Control-Allow-Origin", "*") in verdict.headers
    assert "Vary" not in dict(verdict.headers)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:11434",
        "box",
        "Box:11434",
        "x.localhost",
        "x.local:1",
        "host.docker.internal",
        "127.0.0.1:11434",
        "[::1]:11434",
        "::1",
        "0.0.0.0",  # noqa: S104 - a header, nothing is bound
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.2:80",
        "[fd00::1]",
        "203.0.113.9",
    ],
)
def test_names_of_this_machine_are_allowed(host: str) -> None:
    """Contract 1.11."""
    assert host_allowed(host, hostname="box", own_addresses=frozenset({"203.0.113.9"}))


@pytest.mark.parametrize("host", ["evil.com", "evil.com:11434", "8.8.8.8", "[2001:db8::1]:1"])
def test_other_names_are_refused(host: str) -> None:
    """The guard against DNS rebinding."""
    assert not host_allowed(host, hostname="box")
