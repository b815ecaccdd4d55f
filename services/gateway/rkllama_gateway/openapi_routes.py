"""`/openapi.json`: the document that describes this server."""

from __future__ import annotations

from importlib.metadata import version

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from rkllama_gateway.connection import JSON
from rkllama_gateway.dialects.openapi.operations import document

PATH = "/openapi.json"


def document_router() -> APIRouter:
    """The one endpoint. The document is made once: it depends on nothing that changes."""
    body = orjson.dumps(document(version=version("rkllama")))

    async def openapi() -> Response:
        return Response(body, headers={"content-type": JSON})

    router = APIRouter()
    router.add_api_route(PATH, openapi, methods=["GET"], include_in_schema=False)
    return router
