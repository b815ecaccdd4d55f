"""`/api/blobs`: passed through to the model store, byte for byte, in both directions."""

from __future__ import annotations

import httpx2
from fastapi import APIRouter
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.names import Digest, InvalidNameError
from starlette.requests import Request
from starlette.responses import Response

from rkllama_gateway.catalog import Catalog, broken_off
from rkllama_gateway.connection import JSON
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama.failures import Endpoint, failure
from rkllama_gateway.ollama_routes import refuse


class BlobRoutes:
    """HEAD and POST of a blob."""

    def __init__(self, catalog: Catalog, client: httpx2.AsyncClient) -> None:
        self._catalog = catalog
        self._client = client

    def router(self) -> APIRouter:
        """The endpoints."""
        router = APIRouter()
        path = "/api/blobs/{digest}"
        router.add_api_route(path, self.head, methods=["HEAD"], include_in_schema=False)
        router.add_api_route(path, self.upload, methods=["POST"], include_in_schema=False)
        return router

    async def head(self, digest: str) -> Response:
        """Whether the blob is there."""
        return await self._pass("HEAD", digest, None)

    async def upload(self, digest: str, request: Request) -> Response:
        """Store the request's body under its digest."""
        return await self._pass("POST", digest, request)

    async def _pass(self, method: str, text: str, request: Request | None) -> Response:
        try:
            digest = Digest.parse(text)
        except InvalidNameError as error:
            raise DialectError(400, "invalid digest format") from error
        try:
            # The dash form is for looking up; what is new is named with a colon (contract 2.17).
            answer = await self._client.request(
                method,
                f"{self._catalog.http_url}/blobs/{digest}",
                content=None if request is None else request.stream(),
            )
        except httpx2.TransportError as error:
            return refuse(failure(broken_off(error), Endpoint.CREATE))
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.CREATE))
        if method == "HEAD" and answer.status_code == httpx2.codes.NOT_FOUND:
            # The store's answer to a HEAD comes without the text that its length is told of.
            raise DialectError(404, f'blob "{digest}" not found')
        headers = {"content-type": JSON} if answer.content else {}
        return Response(answer.content, status_code=answer.status_code, headers=headers)
