"""The HTTP application: Ollama's routes, probes, and the texts Ollama gives where there is no route."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from html import escape
from http import HTTPStatus
from urllib.parse import quote

import httpx2
from fastapi import FastAPI
from rkllama_policy.rate import retry_after_s
from rkllama_service.http import is_loopback, probes
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rkllama_gateway.anthropic_routes import AnthropicRoutes
from rkllama_gateway.auth import Guard
from rkllama_gateway.blob_routes import BlobRoutes
from rkllama_gateway.cloud_routes import CloudRoutes
from rkllama_gateway.connection import JSON
from rkllama_gateway.debug_routes import DebugRoutes
from rkllama_gateway.dialects import hosts, routes
from rkllama_gateway.dialects.access import Refusal
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.refusing import refusal_body, too_often
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.metrics import Metrics
from rkllama_gateway.ollama_routes import OllamaRoutes, refuse
from rkllama_gateway.openai_routes import OpenAIRoutes
from rkllama_gateway.openapi_routes import document_router
from rkllama_gateway.rates import Rates
from rkllama_gateway.reading import Bodies, LingeringResponse
from rkllama_gateway.recent import Recent, Recorder

HTML = "text/html; charset=utf-8"
_IN_A_PATH = "/:@&=+$,;"
"""What Go leaves as it is in the path of an address, besides letters, digits and `-_.~`."""
_TEXTS = {404: routes.NOT_FOUND, 405: routes.NOT_ALLOWED}


def build(
    gateway: Gateway,
    client: httpx2.AsyncClient,
    *,
    listen_host: str,
    guard: Guard,
    debug: bool = False,
) -> ASGIApp:
    """The application, wrapped in what stands before every route; `debug` adds `/api/debug`."""
    recent = Recent() if debug else None
    edge = Edge(
        application(gateway, client, recent=recent),
        listen_host=listen_host,
        guard=guard,
        rates=Rates(gateway.settings.rate()),
        metrics=gateway.metrics,
        bodies=gateway.bodies,
        origins=hosts.origins(gateway.settings.origins),
    )
    return edge if recent is None else Recorder(edge, recent)


def application(
    gateway: Gateway, client: httpx2.AsyncClient, *, recent: Recent | None = None
) -> FastAPI:
    """Every route there is."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routers = [
        OllamaRoutes(gateway, client).router(),
        BlobRoutes(gateway.catalog, client).router(),
        CloudRoutes(gateway.bodies).router(),
        OpenAIRoutes(gateway).router(),
        AnthropicRoutes(gateway).router(),
        document_router(),
    ]
    if recent is not None:
        routers.append(DebugRoutes(gateway, recent).router())
    for router in routers:
        app.router.routes.extend(router.routes)
    app.router.routes.extend(probes(gateway.metrics.registry, gateway.not_ready))
    app.add_exception_handler(DialectError, _on_dialect_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    return app


async def _on_dialect_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, DialectError):
        raise error
    return refuse(error)


async def _on_http_error(_: Request, error: Exception) -> Response:
    """A path of the contract that this server does not serve yet is not there."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    text = _TEXTS.get(status, error.detail)
    return _plain(status, text, error.headers)


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A text without a charset in its type, as Ollama's router has it."""
    return Response(text, status, headers={"content-type": "text/plain"} | dict(headers or {}))


async def _on_client_gone(_: Request, __: Exception) -> Response:
    """The client went away while it sent its request: nobody reads this."""
    return Response(status_code=499)


class Edge:
    """What stands before every route: origins, hosts, keys, rates, then which paths there are.

    Contract 1.1 and 1.11 have the others; a preflight carries no key, and is answered before one is
    asked for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        listen_host: str,
        guard: Guard,
        rates: Rates,
        metrics: Metrics,
        bodies: Bodies,
        origins: Sequence[str],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._bodies = bodies
        self._origins = origins
        self._guard = guard
        self._rates = rates
        self._check_host = is_loopback(listen_host)
        self._hostname = socket.gethostname()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at once, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        host = request.headers.get("host", "")
        origin = request.headers.get("origin", "")
        verdict = hosts.judge_origin(request.method, origin=origin, host=host, extra=self._origins)
        answer: ASGIApp = self._app
        if verdict.status:
            answer = _bare(request, verdict.status)
        elif self._check_host and not hosts.host_allowed(
            host, hostname=self._hostname, own_addresses=frozenset()
        ):
            answer = _bare(request, 403)
        elif (
            self._check_host
            and request.method == "OPTIONS"
            and hosts.named_here(host, hostname=self._hostname)
        ):
            answer = _bare(request, 204)
        elif (refusal := await self._guard.admit(scope)) is not None:
            request.state.rejected = "auth"
            answer = _no_entry(request, refusal)
        elif (wait_s := self._rates.wait_s(scope)) > 0:
            request.state.rejected = "rate"
            retry = {"retry-after": str(retry_after_s(wait_s))}
            answer = _refused(request, too_often(wait_s), retry)
        elif (no_route := _no_route(request)) is not None:
            answer = no_route
        if verdict.headers:
            send = _adding(send, verdict.headers)
        try:
            await answer(scope, receive, send)
        finally:
            self._bodies.let_go(scope)
        # Whoever turns a request away, here or further in, notes why.
        if (reason := scope.get("state", {}).get("rejected")) is not None:
            self._metrics.rejected(reason)


def _bare(request: Request, status: int) -> Response:
    """An answer without a body; the router has looked at the method before, and told it."""
    methods = routes.allowed(request.scope["path"])
    told = methods and request.method not in methods
    return Response(status_code=status, headers={"allow": ", ".join(methods)} if told else {})


def _no_entry(request: Request, refusal: Refusal) -> Response:
    """A refusal for want of a key; what the client goes on sending is kept nowhere."""
    error = DialectError(refusal.status, refusal.message)
    return _refused(request, error, {"www-authenticate": refusal.challenge})


def _refused(request: Request, error: DialectError, more: Mapping[str, str]) -> Response:
    body = refusal_body(request.scope["path"], error, request_id=secrets.token_hex(12))
    headers = {"content-type": JSON, **more}
    if not _brings_body(request):
        return Response(body, status_code=error.status, headers=headers)
    headers["connection"] = "close"
    return LingeringResponse(body, status_code=error.status, headers=headers)


def _brings_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _no_route(request: Request) -> Response | None:
    path, method = request.scope["path"], request.method
    if path in routes.OWN_PATHS:
        return None
    if (redirect := routes.redirect(path, method)) is not None:
        query = request.url.query
        # The path came decoded, and may hold what is no text of a header.
        location = quote(redirect.path, safe=_IN_A_PATH) + (f"?{query}" if query else "")
        return _moved(redirect.status, location, method=method)
    methods = routes.allowed(path)
    if not methods:
        return _plain(404, routes.NOT_FOUND)
    if method not in methods:
        return _plain(405, routes.NOT_ALLOWED, {"allow": ", ".join(methods)})
    return None


def _moved(status: int, location: str, *, method: str) -> Response:
    """A redirect as Go's `http.Redirect` writes it: with a page for whoever only reads."""
    headers = {"location": location}
    if method not in {"GET", "HEAD"}:
        return Response(status_code=status, headers=headers)
    headers["content-type"] = HTML
    page = f'<a href="{escape(location)}">{HTTPStatus(status).phrase}</a>.\n\n'
    return Response(page if method == "GET" else None, status_code=status, headers=headers)


def _adding(send: Send, headers: Sequence[tuple[str, str]]) -> Send:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *raw]
        await send(message)

    return sending
