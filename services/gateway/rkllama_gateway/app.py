"""The HTTP application: Ollama's routes, probes, and the texts Ollama gives where there is no route."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import quote

import httpx2
from fastapi import FastAPI
from rkllama_service.http import probes
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rkllama_gateway.blob_routes import BlobRoutes
from rkllama_gateway.dialects import hosts, routes
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.ollama_routes import OllamaRoutes, refuse

OWN_PATHS = frozenset({"/metrics", "/livez", "/readyz"})
"""Routes that Ollama does not have."""


def build(gateway: Gateway, client: httpx2.AsyncClient, *, listen_host: str) -> ASGIApp:
    """The application, wrapped in what stands before every route."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(OllamaRoutes(gateway).router())
    app.include_router(BlobRoutes(gateway.catalog, client).router())
    app.router.routes.extend(probes(gateway.metrics.registry, gateway.not_ready))
    app.add_exception_handler(DialectError, _on_dialect_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    return Edge(app, listen_host=listen_host)


async def _on_dialect_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, DialectError):
        raise error
    return refuse(error)


async def _on_http_error(_: Request, error: Exception) -> Response:
    """A path of the contract that this server does not serve yet is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "404 page not found" if status == httpx2.codes.NOT_FOUND else str(error)
    return PlainTextResponse(text, status_code=status, media_type="text/plain")


async def _on_client_gone(_: Request, __: Exception) -> Response:
    """The client went away while it sent its request: nobody reads this."""
    return Response(status_code=499)


class Edge:
    """What stands before every route: origins, hosts, then which paths there are (contract 1.1, 1.11)."""

    def __init__(self, app: ASGIApp, *, listen_host: str) -> None:
        self._app = app
        self._check_host = hosts.is_loopback(listen_host)
        self._hostname = socket.gethostname()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at once, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        host = request.headers.get("host", "")
        origin = request.headers.get("origin", "")
        verdict = hosts.judge_origin(request.method, origin=origin, host=host)
        answer: ASGIApp = self._app
        if verdict.status:
            answer = Response(status_code=verdict.status)
        elif self._check_host and not hosts.host_allowed(
            host, hostname=self._hostname, own_addresses=frozenset()
        ):
            answer = Response(status_code=403)
        elif (no_route := _no_route(request)) is not None:
            answer = no_route
        if verdict.headers:
            send = _adding(send, verdict.headers)
        await answer(scope, receive, send)


def _no_route(request: Request) -> Response | None:
    path, method = request.scope["path"], request.method
    if path in OWN_PATHS:
        return None
    if (redirect := routes.redirect(path, method)) is not None:
        query = request.url.query
        # The path came decoded, and may hold what is no text of a header.
        location = quote(redirect.path) + (f"?{query}" if query else "")
        return Response(status_code=redirect.status, headers={"location": location})
    methods = routes.allowed(path)
    if not methods:
        return PlainTextResponse("404 page not found", 404, media_type="text/plain")
    if method not in methods:
        text, headers = "405 method not allowed", {"allow": ", ".join(methods)}
        return PlainTextResponse(text, 405, headers=headers, media_type="text/plain")
    return None


def _adding(send: Send, headers: Sequence[tuple[str, str]]) -> Send:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *raw]
        await send(message)

    return sending
