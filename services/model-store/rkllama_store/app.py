"""Blobs over HTTP: gateways pass their clients' uploads on to it, workers read from it.

HEAD /blobs/{digest}    200, or 404
GET  /blobs/{digest}    the bytes; understands Range
POST /blobs/{digest}    the bytes as the body: 201 stored, 200 there already
GET  /metadata/{digest} all metadata of a GGUF file, which may be too large for a message on the bus
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry
from rkllama_protocol.errors import InvalidModelError, StorageError
from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_service import http
from rkllama_transfer.threads import in_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from rkllama_store import gguf_reading
from rkllama_store.blobs import Blobs, DigestMismatchError, Incoming

log = logging.getLogger(__name__)

PIECE_BYTES = 2**20
"""What is gathered of a body before a thread writes it."""


def build(
    blobs: Blobs,
    registry: CollectorRegistry,
    *,
    not_ready: Callable[[], str],
    measure: Callable[[], Awaitable[None]],
) -> Starlette:
    """The application. `not_ready()` is why the store is not ready, or empty; for `measure` see `probes`."""
    routes = BlobRoutes(blobs)
    return Starlette(
        routes=[
            *http.probes(registry, not_ready, measure=measure),
            Route("/blobs/{digest}", routes.read, methods=["GET", "HEAD"]),
            Route("/blobs/{digest}", routes.write, methods=["POST"]),
            Route("/metadata/{digest}", routes.metadata, methods=["GET"]),
        ]
    )


class BlobRoutes:
    """The endpoints."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        # Each takes a process, and memory for the whole vocabulary.
        self._one_at_a_time = asyncio.Lock()

    async def metadata(self, request: Request) -> Response:
        """GET of what a GGUF file says about itself."""
        try:
            digest = _digest(request)
        except InvalidNameError:
            return _refusal("invalid digest format", 400)
        if await in_thread(lambda: self._blobs.size(digest)) is None:
            return _refusal(f'blob "{digest}" not found', 404)
        async with self._one_at_a_time:
            try:
                said = await gguf_reading.metadata(self._blobs.path(digest))
            except InvalidModelError as error:
                return _refusal(error.message, 422)
        return Response(said, media_type="application/json")

    async def read(self, request: Request) -> Response:
        """HEAD and GET."""
        try:
            digest = _digest(request)
        except InvalidNameError:
            return _refusal("invalid digest format", 400)
        if request.method == "HEAD":
            # Clients ask so before they upload and create; what is there shall not go meanwhile.
            self._blobs.expect(digest)
        size = await in_thread(lambda: self._blobs.size(digest))
        if size is None:
            self._blobs.settle([digest])
            return _refusal(f'blob "{digest}" not found', 404)
        path = self._blobs.path(digest)
        return FileResponse(path, media_type="application/octet-stream")

    async def write(self, request: Request) -> Response:
        """POST."""
        try:
            digest = _digest(request)
        except InvalidNameError:
            return _refusal("invalid digest format", 400)
        self._blobs.expect(digest)
        if await in_thread(lambda: self._blobs.size(digest)) is not None:
            return Response(status_code=200)
        try:
            await self._store(request, digest)
        except DigestMismatchError as error:
            return _refusal(str(error), 400)
        except StorageError as error:
            return _refusal(error.message, 507)
        except ClientDisconnect:
            log.info("upload abandoned", extra={"digest": str(digest)})
            # Nobody reads it.
            return Response(status_code=499)
        return Response(status_code=201)

    async def _store(self, request: Request, digest: Digest) -> None:
        incoming = await in_thread(self._blobs.incoming)
        gathered = bytearray()
        try:
            async for piece in request.stream():
                gathered += piece
                if len(gathered) >= PIECE_BYTES:
                    await _write(incoming, gathered)
                    gathered = bytearray()
            await _write(incoming, gathered)
            await in_thread(lambda: incoming.commit(digest))
        except BaseException:
            self._blobs.settle([digest])
            raise
        finally:
            await in_thread(incoming.discard)


async def _write(incoming: Incoming, data: bytearray) -> None:
    await in_thread(lambda: incoming.write(bytes(data)))


def _digest(request: Request) -> Digest:
    return Digest.parse(request.path_params["digest"])


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status_code=status)
