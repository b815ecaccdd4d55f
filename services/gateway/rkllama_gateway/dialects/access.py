"""What takes a key, and how a client without the right one is refused.

                          off     admin   all
/  /livez  /readyz        -       -       -
asking and reading        -       -       any key
managing                  -       admin   admin
paths that are no route   -       -       any key

A route that is not named here counts as managing: a new one is closed until it is opened. Without
a key, `all` does not tell which paths there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rkllama_service.keys import Auth, Scope

from rkllama_gateway.dialects import routes

_FREE = frozenset({"/", "/livez", "/readyz"})
_INFER = frozenset(
    {
        "/metrics",
        "/openapi.json",
        "/api/version",
        "/api/tags",
        "/api/status",
        "/api/ps",
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/show",
        "/api/me",
        "/api/experimental/web_search",
        "/api/experimental/web_fetch",
        "/api/experimental/model-recommendations",
    }
)
_OPENAI = "/v1/"
_ANTHROPIC = "/v1/messages"


def is_anthropic(path: str) -> bool:
    """Whether Anthropic's dialect is spoken at a decoded path."""
    return path == _ANTHROPIC or path.startswith(f"{_ANTHROPIC}/")


def is_openai(path: str) -> bool:
    """Whether OpenAI's dialect is spoken at a decoded path, or Anthropic's."""
    return path.startswith(_OPENAI)


UNAUTHORIZED = 401
FORBIDDEN = 403


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not let in."""

    status: int
    message: str
    challenge: str
    """Value of the header `WWW-Authenticate` (RFC 6750, section 3)."""


MISSING = Refusal(status=UNAUTHORIZED, message="an API key is required", challenge="Bearer")
UNKNOWN = Refusal(
    status=UNAUTHORIZED, message="invalid API key", challenge='Bearer error="invalid_token"'
)
NOT_ADMIN = Refusal(
    status=FORBIDDEN,
    message="this API key may not do that; it takes one with the scope 'admin'",
    challenge='Bearer error="insufficient_scope", scope="admin"',
)


def needed(auth: Auth, path: str) -> Scope | None:
    """The scope that a request for this decoded path takes; None: it takes no key."""
    if auth is Auth.OFF or path in _FREE:
        return None
    if routes.is_known(path) and path not in _INFER and not path.startswith(_OPENAI):
        return Scope.ADMIN
    return Scope.INFER if auth is Auth.ALL else None


def sent_keys(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """The keys that a client shows, as `Authorization: Bearer` or as `x-api-key`.

    Args:
        headers: Names in lower case, and values, as they came.
    """
    found = []
    for name, value in headers:
        text = value.strip()
        if name == b"authorization":
            scheme, _, rest = text.partition(b" ")
            text = rest.strip() if scheme.lower() == b"bearer" else b""
        elif name != b"x-api-key":
            continue
        if text:
            found.append(text)
    return tuple(found)


def judge(scope: Scope | None, *, takes: Scope | None, sent: bool) -> Refusal | None:
    """Whether a client is let in; None: it is.

    Args:
        scope: Of the key that it sent; None: none that is known.
        takes: What the request takes, by `needed`.
        sent: Whether it sent anything as a key.
    """
    if takes is None:
        return None
    if scope is None:
        return UNKNOWN if sent else MISSING
    return None if scope.covers(takes) else NOT_ADMIN
