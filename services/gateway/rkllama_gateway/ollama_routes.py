"""Ollama's endpoints: read the body, ask, answer. What anything means is in `dialects.ollama`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Literal, Protocol, TypeVar

import httpx2
from fastapi import APIRouter
from rkllama_protocol.errors import ModelNotFoundError, RkllamaError
from rkllama_protocol.messages import (
    CopyRequest,
    DeleteRequest,
    Job,
    Progress,
    ResolvedModel,
    TagsReply,
)
from rkllama_protocol.names import ModelName
from starlette.requests import Request
from starlette.responses import Response

from rkllama_gateway.admission import terms_of
from rkllama_gateway.answering import Answer, AnswerResponse, Record
from rkllama_gateway.connection import JSON, refusal_headers
from rkllama_gateway.dialects.errors import DialectError, UnreadBodyError
from rkllama_gateway.dialects.ollama import admin, answers, failures, listings, show
from rkllama_gateway.dialects.ollama import jobs as job_rules
from rkllama_gateway.dialects.ollama import requests as bodies
from rkllama_gateway.dialects.ollama.failures import Endpoint, error_body, failure
from rkllama_gateway.dialects.ollama.vectors import EmbedAnswer
from rkllama_gateway.gateway import Facts, Gateway
from rkllama_gateway.metadata import whole_metadata
from rkllama_gateway.progressing import ProgressResponse
from rkllama_gateway.reading import LingeringResponse

GREETING = b"Ollama is running"

T = TypeVar("T")


class OllamaAnswer(Answer, Protocol):
    """An answer of this dialect, in which an unload is one too."""

    def idle(self, reason: Literal["load", "unload"], *, now_ns: int) -> bytes:
        """What any client gets where nothing is to be run."""


class InferenceRequest(Protocol):
    """What the requests for a job have in common."""

    @property
    def model(self) -> str:
        """As the client typed it."""

    @property
    def name(self) -> ModelName:
        """Parsed."""


def _json(body: bytes) -> Response:
    return Response(body, headers={"content-type": JSON})


def refuse(error: DialectError) -> Response:
    """A refusal as a whole answer."""
    headers = {"content-type": JSON} | refusal_headers(error)
    kind = LingeringResponse if isinstance(error, UnreadBodyError) else Response
    return kind(error_body(error), status_code=error.status, headers=headers)


def _utc_offset_s() -> int:
    offset = datetime.now().astimezone().utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


class OllamaRoutes:
    """The handlers; each is one endpoint."""

    def __init__(self, gateway: Gateway, client: httpx2.AsyncClient) -> None:
        self._gateway = gateway
        self._client = client

    def router(self) -> APIRouter:
        """The endpoints with their methods (contract 1.1)."""
        router = APIRouter()
        for path, methods, handler in (
            ("/", ["GET", "HEAD"], self.greeting),
            ("/api/version", ["GET", "HEAD"], self.version),
            ("/api/tags", ["GET", "HEAD"], self.tags),
            ("/api/ps", ["GET"], self.ps),
            ("/api/status", ["GET"], self.status),
            ("/api/show", ["POST"], self.show),
            ("/api/chat", ["POST"], self.chat),
            ("/api/generate", ["POST"], self.generate),
            ("/api/embed", ["POST"], self.embed),
            ("/api/embeddings", ["POST"], self.embeddings),
            ("/api/pull", ["POST"], self.pull),
            ("/api/push", ["POST"], self.push),
            ("/api/create", ["POST"], self.create),
            ("/api/verify", ["POST"], self.verify),
            ("/api/drain", ["POST"], self.drain),
            ("/api/copy", ["POST"], self.copy),
            ("/api/delete", ["DELETE"], self.delete),
        ):
            router.add_api_route(path, handler, methods=methods, include_in_schema=False)
        return router

    # ------------------------------------------------------------------ what there is

    async def greeting(self) -> Response:
        """`GET /`: that everything is there."""
        if not self._gateway.complete():
            return Response(
                self._gateway.not_ready(), status_code=503, media_type="text/plain; charset=utf-8"
            )
        return Response(GREETING, media_type="text/plain; charset=utf-8")

    async def version(self) -> Response:
        """`GET /api/version`: the API level."""
        return _json(listings.version(self._gateway.settings.api_version))

    async def status(self) -> Response:
        """`GET /api/status`: that there is no cloud."""
        return _json(listings.status())

    async def tags(self) -> Response:
        """`GET /api/tags`: the models."""
        try:
            models = await self._gateway.catalog.tags()
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.TAGS))
        limits = self._gateway.boards.context_limits
        return _json(listings.tags(TagsReply(models=models), context_limits=limits))

    async def ps(self) -> Response:
        """`GET /api/ps`: the loaded models, by the workers' own word."""
        beats = await self._gateway.boards.status()
        held = [model for beat in beats for model in beat.models]
        return _json(
            listings.ps(
                held,
                now_ns=time.time_ns(),
                utc_offset_s=_utc_offset_s(),
                queues=self._gateway.queues(),
            )
        )

    async def show(self, request: Request) -> Response:
        """`POST /api/show`: everything about one model."""
        asked = await self._read(request, admin.parse_show)
        agent = request.headers.get("user-agent", "")
        catalog = self._gateway.catalog
        try:
            reply = await catalog.show(asked.name, verbose=asked.verbose)
            limit = self._gateway.boards.context_limits.get(reply.model.digest)
            reply = show.limited(reply, context_limit=limit)
            if not asked.verbose:
                return _json(show.show(reply, asked, user_agent=agent))
            whole = await whole_metadata(reply.model, catalog, self._client)
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.SHOW, model=asked.name.display))
        # A vocabulary is megabytes of JSON.
        return _json(
            await asyncio.to_thread(show.show, reply, asked, user_agent=agent, whole=whole)
        )

    # ------------------------------------------------------------------ inference

    async def chat(self, request: Request) -> Response:
        """`POST /api/chat`."""
        asked = await self._read(request, bodies.parse_chat)
        answer = answers.chat_answer(asked.model, images=asked.image_count)
        return await self._infer(
            request,
            asked,
            answer,
            lambda model, facts: job_rules.chat_job(asked, model, **facts),
            Endpoint.CHAT,
            answer.record if asked.stream else None,
        )

    async def generate(self, request: Request) -> Response:
        """`POST /api/generate`."""
        asked = await self._read(request, bodies.parse_generate)
        answer = answers.generate_answer(asked.model, raw=asked.raw, images=asked.image_count)
        return await self._infer(
            request,
            asked,
            answer,
            lambda model, facts: job_rules.generate_job(asked, model, **facts),
            Endpoint.GENERATE,
            answer.record if asked.stream else None,
        )

    async def embed(self, request: Request) -> Response:
        """`POST /api/embed`."""
        return await self._embed(request, await self._read(request, bodies.parse_embed))

    async def embeddings(self, request: Request) -> Response:
        """`POST /api/embeddings`, the older way to embed."""
        return await self._embed(request, await self._read(request, bodies.parse_embeddings))

    async def _embed(self, request: Request, asked: bodies.EmbedRequest) -> Response:
        return await self._infer(
            request,
            asked,
            EmbedAnswer(asked.endpoint, asked.model, dimensions=asked.dimensions),
            lambda model, facts: job_rules.embed_job(asked, model, **facts),
            asked.endpoint,
        )

    async def _infer(
        self,
        request: Request,
        asked: InferenceRequest,
        answer: OllamaAnswer,
        make: Callable[[ResolvedModel, Facts], Job | job_rules.LoadIntent | job_rules.UnloadIntent],
        endpoint: Endpoint,
        record: Record | None = None,
    ) -> Response:
        """The job's answer, in lines that `record` writes for a client that wants a stream."""
        gateway = self._gateway
        try:
            gateway.refuse_if_draining()
            model = await gateway.catalog.resolve(asked.name)
            intent = make(model, gateway.facts())
            if isinstance(intent, job_rules.UnloadIntent):
                await gateway.boards.unload(intent.model.digest)
                return _json(answer.idle("unload", now_ns=time.time_ns()))
            if isinstance(intent, job_rules.LoadIntent):
                num_ctx = intent.job.num_ctx
                if await gateway.boards.keep(model.digest, intent.keep_alive_s, num_ctx=num_ctx):
                    return _json(answer.idle("load", now_ns=time.time_ns()))
                intent = intent.job
            held = await gateway.jobs.submit(intent, terms_of(request))
        except RkllamaError as error:
            return refuse(failure(error, endpoint, model=asked.model))
        # A load, and a prompt that is only shown, is one object also to a client that streams.
        shown = held.job.kind == "load" or held.job.render_only
        return AnswerResponse(
            held,
            answer,
            errors=failures,
            explain=lambda error: failure(error, endpoint, model=asked.model),
            jobs=gateway.jobs,
            metrics=gateway.metrics,
            record=None if shown else record,
        )

    async def _read(self, request: Request, parse: Callable[[bytes], T]) -> T:
        return await self._gateway.bodies.read(request, parse)

    # ------------------------------------------------------------------ the store

    async def copy(self, request: Request) -> Response:
        """`POST /api/copy`."""
        asked = await self._read(request, admin.parse_copy)
        message = CopyRequest(source=asked.source.full, destination=asked.destination.full)
        try:
            await self._gateway.catalog.copy(message)
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.COPY, model=asked.model))
        return Response(status_code=200)

    async def delete(self, request: Request) -> Response:
        """`DELETE /api/delete`."""
        asked = await self._read(request, admin.parse_delete)
        try:
            await self._gateway.catalog.delete(DeleteRequest(model=asked.name.full))
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.DELETE, model=asked.model))
        return Response(status_code=200)

    async def pull(self, request: Request) -> Response:
        """`POST /api/pull`."""
        asked = await self._read(request, admin.parse_pull)
        return ProgressResponse(
            self._gateway.catalog.pull(asked.source),
            Endpoint.PULL,
            model=asked.model,
            stream=asked.stream,
        )

    async def push(self, request: Request) -> Response:
        """`POST /api/push`: there is no registry behind this server."""
        asked = await self._read(request, admin.parse_push)
        return ProgressResponse(
            self._pushed(asked), Endpoint.PUSH, model=asked.model, stream=asked.stream
        )

    async def _pushed(self, asked: admin.PushRequest) -> AsyncGenerator[Progress, None]:
        yield Progress(seq=0, status="retrieving manifest")
        try:
            await self._gateway.catalog.resolve(asked.name)
        except ModelNotFoundError:
            yield Progress(seq=1, status="couldn't retrieve manifest")
            raise
        raise DialectError(501, failures.NO_REGISTRY)

    async def create(self, request: Request) -> Response:
        """`POST /api/create`."""
        asked = await self._read(request, admin.parse_create)
        return ProgressResponse(
            self._gateway.catalog.create(asked.to_message(uuid.uuid4().hex)),
            Endpoint.CREATE,
            model=asked.name.display,
            stream=asked.stream,
        )

    async def verify(self, request: Request) -> Response:
        """`POST /api/verify`, which Ollama has not: are the files what they should be?"""
        asked = await self._read(request, admin.parse_verify)
        return ProgressResponse(
            self._gateway.catalog.verify(asked.name.full if asked.name else ""),
            Endpoint.VERIFY,
            model=asked.name.display if asked.name else "",
            stream=asked.stream,
        )

    async def drain(self, request: Request) -> Response:
        """`POST /api/drain`, which Ollama has not: one worker less."""
        worker_id = await self._read(request, admin.parse_drain)
        try:
            await self._gateway.boards.drain(worker_id)
        except RkllamaError as error:
            return refuse(failure(error, Endpoint.DRAIN))
        return Response(status_code=200)
