"""Every path of Ollama's server and its methods, for answers that are no route's own (contract 1.1).

unknown path      404 text/plain `404 page not found`
wrong method      405 text/plain `405 method not allowed`, `Allow: HEAD, GET`
trailing slash    301 for GET, 307 for the rest, if the path without it is a route
a//b, a/./b, a/../b   307 to the clean path, whether it is a route or not (net/http's ServeMux, Go 1.26)

The second kind is what a base URL with a slash at its end makes of `/api/chat`.
"""

from __future__ import annotations

from typing import NamedTuple

NOT_FOUND = "404 page not found"
NOT_ALLOWED = "405 method not allowed"

_READ = ("HEAD", "GET")
_POST = ("POST",)

ROUTES: dict[str, tuple[str, ...]] = {
    "/": _READ,
    "/api/version": _READ,
    "/api/tags": _READ,
    "/api/status": ("GET",),
    "/api/ps": ("GET",),
    "/api/generate": _POST,
    "/api/chat": _POST,
    "/api/embed": _POST,
    "/api/embeddings": _POST,
    "/api/show": _POST,
    "/api/pull": _POST,
    "/api/verify": _POST,  # ours
    "/api/drain": _POST,  # ours
    "/api/push": _POST,
    "/api/create": _POST,
    "/api/copy": _POST,
    "/api/delete": ("DELETE",),
    "/api/blobs/{digest}": ("HEAD", "POST"),
    "/api/me": _POST,
    "/api/signout": _POST,
    "/api/user/keys/{key}": ("DELETE",),
    "/api/experimental/web_search": _POST,
    "/api/experimental/web_fetch": _POST,
    "/api/experimental/model-recommendations": ("GET",),
    "/v1/chat/completions": _POST,
    "/v1/completions": _POST,
    "/v1/embeddings": _POST,
    "/v1/responses": _POST,
    "/v1/messages": _POST,
    "/v1/messages/count_tokens": _POST,  # ours
    "/v1/audio/transcriptions": _POST,
    "/v1/models": ("GET",),
    "/v1/models/{model}": ("GET",),
}
"""Path to methods, in the order of the header `Allow`; a part in braces is any one segment."""

OWN_PATHS = frozenset({"/metrics", "/livez", "/readyz", "/openapi.json", "/api/debug"})
"""Paths outside Ollama's, which choose their methods themselves."""

_PREFIXES = {
    path[: path.index("{")]: methods for path, methods in ROUTES.items() if path.endswith("}")
}


class Redirect(NamedTuple):
    """Where a path with a slash too many goes; the query is the caller's to keep."""

    status: int
    path: str


def allowed(path: str) -> tuple[str, ...]:
    """The methods of a decoded path; none: there is no such route."""
    if methods := ROUTES.get(path):
        return methods
    prefix, _, segment = path.rpartition("/")
    return _PREFIXES.get(f"{prefix}/", ()) if segment else ()


def is_known(path: str) -> bool:
    """Whether a decoded path is a route, of whatever method."""
    return path in OWN_PATHS or bool(allowed(path))


def redirect(path: str, method: str) -> Redirect | None:
    """Where to send a request whose path is not clean, or would be a route without the slash at its end."""
    if (clean := _clean(path)) != path:
        return Redirect(307, clean)
    bare = path[:-1]
    if not path.endswith("/") or method not in allowed(bare):
        return None
    return Redirect(301 if method == "GET" else 307, bare)


def _clean(path: str) -> str:
    """The path without empty parts and dots; one slash at its end stays."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    end = "/" if parts and path.endswith("/") else ""
    return "/" + "/".join(parts) + end
