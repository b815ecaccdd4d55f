"""Endpoints that Ollama passes on to its makers' servers, answered by a server that has none behind it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rkllama_gateway.connection import JSON
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama import cloud
from rkllama_gateway.reading import Bodies


class CloudRoutes:
    """The handlers; each is one endpoint. All but one refuse."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def router(self) -> APIRouter:
        """The endpoints with their methods (contract 1.1)."""
        router = APIRouter()
        for path, method, handler in (
            ("/api/me", "POST", self.account),
            ("/api/signout", "POST", self.account),
            ("/api/user/keys/{key}", "DELETE", self.account),
            ("/api/experimental/web_search", "POST", self.web_search),
            ("/api/experimental/web_fetch", "POST", self.web_fetch),
            ("/api/experimental/model-recommendations", "GET", self.recommendations),
        ):
            router.add_api_route(path, handler, methods=[method], include_in_schema=False)
        return router

    async def account(self) -> Response:
        """`POST /api/me`, `POST /api/signout` and its older form: nobody has an account here."""
        raise cloud.no_account()

    async def web_search(self, request: Request) -> Response:
        """`POST /api/experimental/web_search`."""
        raise await self._refusal(request, cloud.NO_SEARCH)

    async def web_fetch(self, request: Request) -> Response:
        """`POST /api/experimental/web_fetch`."""
        raise await self._refusal(request, cloud.NO_FETCH)

    async def recommendations(self) -> Response:
        """`GET /api/experimental/model-recommendations`."""
        return Response(cloud.recommendations(), headers={"content-type": JSON})

    async def _refusal(self, request: Request, text: str) -> DialectError:
        return await self._bodies.read(request, lambda body: cloud.refusal(body, text))
