"""Origins and hosts (contract 1.11, and OLLAMA_ORIGINS of 5)."""

from __future__ import annotations

from tests.integration.conformance.matching import ABSENT, Matcher, Partial
from tests.integration.conformance.shapes import NOT_FOUND, answered, empty, refused
from tests.integration.conformance.table import Expected, Request, Row, also, ask, get, post, row

VERSION = answered(Partial({}))
REFUSED = empty(403)

ALLOWED = (
    "http://localhost", "https://localhost", "http://localhost:3000", "https://localhost:8443",
    "http://127.0.0.1", "https://127.0.0.1:1234", "http://0.0.0.0:5173", "https://0.0.0.0",
    "app://obsidian.md", "file://", "tauri://localhost", "vscode-webview://abc",
    "vscode-file://vscode-app",
)  # fmt: skip
NOT_ALLOWED = (
    "https://example.com", "http://localhost.example.com", "chrome-extension://abc", "null",
    "http://192.168.1.2", "ftp://localhost", "https://127.0.0.1.example.com", "http://127.0.0.2",
)  # fmt: skip
HOSTS = (
    "", "localhost", "localhost:11434", "LOCALHOST", "a.localhost", "printer.local",
    "svc.internal:80", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8080", "10.1.2.3",
    "192.168.0.7:80", "172.16.0.1", "0.0.0.0", "[fd00::1]:80",  # noqa: S104 - nothing is bound
)  # fmt: skip
FOREIGN_HOSTS = (
    "example.com", "example.com:80", "localhost.example.com", "8.8.8.8", "172.32.0.1",
    "internal", "[2001:db8::1]", "local",
)  # fmt: skip

STAINLESS = (
    "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version",
    "Poll-Helper", "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
)  # fmt: skip
HEADERS = ",".join(
    [
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
        *(f"X-Stainless-{name}" for name in STAINLESS),
    ]
)
VARIES = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
ORIGIN = "http://localhost:3000"


def preflight(origin: str, *, vary: str | Matcher = VARIES) -> Expected:
    """The answer to a preflight."""
    return Expected(
        status=204,
        kind="empty",
        headers={
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
            "access-control-allow-headers": HEADERS,
            "access-control-max-age": "43200",
            "access-control-allow-credentials": ABSENT,
            "vary": vary,
        },
    )


def asks(path: str, origin: str, method: str = "GET") -> Request:
    """A request from a page."""
    return ask(method, path, headers={"Origin": origin})


def shared(expected: Expected, origin: str) -> Expected:
    """The same, for a page of this origin."""
    return also(expected, access_control_allow_origin=origin, vary="Origin")


ROWS: tuple[Row, ...] = (
    *(row("1.11", f"from {o}", asks("/api/version", o), shared(VERSION, o)) for o in ALLOWED),
    *(
        row(
            "1.11",
            f"not from {o}",
            asks("/api/version", o),
            also(REFUSED, access_control_allow_origin=ABSENT),
        )
        for o in NOT_ALLOWED
    ),
    *(
        row("1.11", f"not from elsewhere, {m}", asks("/api/chat", "https://a.b", m), REFUSED)
        for m in ("POST", "OPTIONS", "DELETE", "HEAD")
    ),
    row(
        "1.11",
        "the server's own origin",
        ask("GET", "/api/version", headers={"Origin": "http://x.local:99"}, host="x.local:99"),
        also(VERSION, access_control_allow_origin=ABSENT, vary=ABSENT),
    ),
    row(
        "1.11",
        "the server's own origin over https",
        ask("GET", "/api/version", headers={"Origin": "https://x.local"}, host="x.local"),
        also(VERSION, access_control_allow_origin=ABSENT, vary=ABSENT),
    ),
    row(
        "1.11",
        "another port of the server's is another origin",
        ask("GET", "/api/version", headers={"Origin": "http://x.local:98"}, host="x.local:99"),
        REFUSED,
    ),
    row("1.11", "a preflight", asks("/api/chat", ORIGIN, "OPTIONS"), preflight(ORIGIN)),
    row(
        "1.11",
        "a preflight of any path",
        asks("/nothing/at/all", ORIGIN, "OPTIONS"),
        preflight(ORIGIN),
    ),
    row(
        "1.11",
        "a preflight with what it asks for",
        ask(
            "OPTIONS",
            "/api/generate",
            headers={
                "Origin": "app://x",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        ),
        preflight("app://x"),
    ),
    row("1.11", "errors are shared too", asks("/nothing", ORIGIN), shared(NOT_FOUND, ORIGIN)),
    row(
        "1.11",
        "refusals are shared too",
        post("/api/chat", {}, headers={"Origin": ORIGIN}),
        shared(refused(400, "model is required"), ORIGIN),
    ),
    *(row("1.11", f"host {h!r}", get("/api/version", host=h), VERSION) for h in HOSTS),
    *(row("1.11", f"not host {h!r}", get("/api/version", host=h), REFUSED) for h in FOREIGN_HOSTS),
    *(
        row(
            "1.11",
            f"OPTIONS at {h!r}, without an origin",
            ask("OPTIONS", path, host=h),
            Expected(
                status=204,
                kind="empty",
                headers={"allow": allow, "access-control-allow-origin": ABSENT},
            ),
        )
        for h, path, allow in (
            ("localhost:11434", "/api/chat", "POST"),
            ("x.local", "/api/tags", "HEAD, GET"),
            ("localhost", "/nothing", ABSENT),
        )
    ),
    row(
        "1.11",
        "a refused origin is told the methods too",
        asks("/api/tags", "https://a.b", "POST"),
        also(REFUSED, allow="HEAD, GET"),
    ),
    row(
        "1.11",
        "a preflight is told the methods too",
        asks("/api/tags", ORIGIN, "OPTIONS"),
        also(preflight(ORIGIN), allow="HEAD, GET"),
    ),
    row("1.11", "hosts come before paths", get("/nothing", host="example.com"), REFUSED),
    row(
        "1.11",
        "origins come before hosts",
        ask("GET", "/api/version", headers={"Origin": ORIGIN}, host="example.com"),
        also(REFUSED, access_control_allow_origin=ORIGIN),
    ),
    row(
        "5",
        "OLLAMA_ORIGINS=* allows all",
        asks("/api/version", "https://example.com"),
        also(VERSION, access_control_allow_origin="*", vary=ABSENT),
        on="any-origin",
    ),
    row(
        "5",
        "OLLAMA_ORIGINS=* in a preflight",
        asks("/api/chat", "null", "OPTIONS"),
        also(preflight("*"), vary=ABSENT),
        on="any-origin",
    ),
    row(
        "5",
        "OLLAMA_ORIGINS adds an origin",
        asks("/api/version", "https://a.example"),
        shared(VERSION, "https://a.example"),
        on="more-origins",
    ),
    row(
        "5",
        "OLLAMA_ORIGINS may have a wildcard",
        asks("/api/version", "chrome-extension://abcdef"),
        shared(VERSION, "chrome-extension://abcdef"),
        on="more-origins",
    ),
    row(
        "5",
        "OLLAMA_ORIGINS keeps the others",
        asks("/api/version", ORIGIN),
        shared(VERSION, ORIGIN),
        on="more-origins",
    ),
    row(
        "5",
        "OLLAMA_ORIGINS opens nothing else",
        asks("/api/version", "https://b.example"),
        REFUSED,
        on="more-origins",
    ),
)
