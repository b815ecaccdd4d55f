"""OpenAI's endpoints: read the body, ask, answer. What anything means is in `dialects.openai`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from fastapi import APIRouter
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Job, ResolvedModel
from starlette.requests import Request
from starlette.responses import Response

from rkllama_gateway.admission import terms_of
from rkllama_gateway.answering import Answer, AnswerResponse, Record
from rkllama_gateway.connection import JSON, JSON_IN_STREAM, ErrorWriter, refusal_headers
from rkllama_gateway.dialects import targets
from rkllama_gateway.dialects.errors import DialectError, UnreadBodyError
from rkllama_gateway.dialects.openai import failures, jobs, models, requests
from rkllama_gateway.dialects.openai.answers import ChatAnswer, CompletionAnswer
from rkllama_gateway.dialects.openai.embeddings import EmbeddingAnswer
from rkllama_gateway.dialects.openai.failures import failure
from rkllama_gateway.dialects.openai.inputs import parse_response
from rkllama_gateway.dialects.openai.packed import unpacked
from rkllama_gateway.dialects.openai.responses import ResponseAnswer
from rkllama_gateway.dialects.openai.transcriptions import cannot, parse_transcription
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.reading import LingeringResponse

EVENTS: Mapping[str, str] = {"content-type": "text/event-stream"}
RESPONSE_EVENTS: Mapping[str, str] = {
    **EVENTS,
    "cache-control": "no-cache",
    "connection": "keep-alive",
}
"""Headers of streams (contract 1.3)."""

T = TypeVar("T")


def _answered(body: bytes, content_type: str = JSON_IN_STREAM) -> Response:
    return Response(body, headers={"content-type": content_type})


def _refused(error: DialectError) -> Response:
    """To what is a request of this API, and cannot be done."""
    headers = {"content-type": JSON_IN_STREAM} | refusal_headers(error)
    return Response(failures.error_body(error), status_code=error.status, headers=headers)


def _rejected(error: DialectError) -> Response:
    """To what is no request of this API."""
    headers = {"content-type": JSON} | refusal_headers(error)
    kind = LingeringResponse if isinstance(error, UnreadBodyError) else Response
    return kind(failures.refused_body(error), status_code=error.status, headers=headers)


class OpenAIRoutes:
    """The handlers; each is one endpoint."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def router(self) -> APIRouter:
        """The endpoints with their methods (contract 1.1)."""
        router = APIRouter()
        for path, method, handler in (
            ("/v1/chat/completions", "POST", self.chat),
            ("/v1/completions", "POST", self.completion),
            ("/v1/embeddings", "POST", self.embeddings),
            ("/v1/responses", "POST", self.response),
            ("/v1/audio/transcriptions", "POST", self.transcription),
            ("/v1/models", "GET", self.models),
            ("/v1/models/{model}", "GET", self.model),
        ):
            router.add_api_route(path, handler, methods=[method], include_in_schema=False)
        return router

    # ------------------------------------------------------------------ text and vectors

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""

        def answer(asked: requests.Run, job_id: str) -> ChatAnswer:
            return ChatAnswer(
                asked.model,
                job_id=job_id,
                created=int(time.time()),
                include_usage=asked.include_usage,
                images=asked.image_count,
                one_call=asked.one_call,
            )

        return await self._run(request, requests.parse_chat, answer)

    async def completion(self, request: Request) -> Response:
        """`POST /v1/completions`."""

        def answer(asked: requests.Run, job_id: str) -> CompletionAnswer:
            return CompletionAnswer(
                asked.model,
                job_id=job_id,
                created=int(time.time()),
                include_usage=asked.include_usage,
            )

        return await self._run(request, requests.parse_completion, answer)

    async def _run(
        self,
        request: Request,
        parse: Callable[[bytes], requests.Run],
        answer_to: Callable[[requests.Run, str], ChatAnswer | CompletionAnswer],
    ) -> Response:
        try:
            asked = await self._read(request, parse)
        except DialectError as error:
            return _rejected(error)
        facts = self._gateway.facts()
        answer = answer_to(asked, facts["job_id"])
        streamed = asked.stream and not asked.render_only
        return await self._infer(
            request,
            asked,
            lambda model: jobs.run_job(asked, model, **facts),
            answer,
            record=answer.record if streamed else None,
        )

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/embeddings`."""
        try:
            asked = await self._read(request, requests.parse_embedding)
        except DialectError as error:
            return _rejected(error)
        facts = self._gateway.facts()
        return await self._infer(
            request,
            asked,
            lambda model: jobs.embed_job(asked, model, **facts),
            EmbeddingAnswer(asked),
        )

    async def response(self, request: Request) -> Response:
        """`POST /v1/responses`."""
        try:
            encoding = request.headers.get("content-encoding", "")
            asked = await self._gateway.bodies.read(
                request, parse_response, unpack=lambda body: unpacked(body, encoding)
            )
        except DialectError as error:
            return _rejected(error)
        facts = self._gateway.facts()
        answer = ResponseAnswer(asked, job_id=facts["job_id"], created=int(time.time()))
        return await self._infer(
            request,
            asked.run,
            lambda model: jobs.run_job(asked.run, model, **facts),
            answer,
            record=answer.record if asked.run.stream else None,
            errors=answer,
            stream_headers=RESPONSE_EVENTS,
        )

    async def transcription(self, request: Request) -> Response:
        """`POST /v1/audio/transcriptions`: no model here hears."""
        content_type = request.headers.get("content-type", "")
        try:
            typed = await self._read(request, lambda body: parse_transcription(content_type, body))
        except DialectError as error:
            return _rejected(error)
        try:
            name = targets.target(typed, empty=DialectError(400, targets.REQUIRED))
            return _refused(cannot(await self._gateway.catalog.resolve(name)))
        except DialectError as error:
            return _refused(error)
        except RkllamaError as error:
            return _refused(failure(error, typed=typed))

    async def _infer(
        self,
        request: Request,
        asked: requests.Run | requests.Embedding,
        make: Callable[[ResolvedModel], Job],
        answer: Answer,
        *,
        record: Record | None = None,
        errors: ErrorWriter = failures,
        stream_headers: Mapping[str, str] = EVENTS,
    ) -> Response:
        """The job's answer, in events that `record` writes for a client that wants a stream."""
        gateway = self._gateway
        embedding = isinstance(asked, requests.Embedding)

        def explain(error: RkllamaError) -> DialectError:
            return failure(error, typed=asked.model, embedding=embedding)

        try:
            name = requests.target(asked)
            gateway.refuse_if_draining()
            job = make(await gateway.catalog.resolve(name))
            if job.kind == "load" and await gateway.boards.keep(
                job.model.digest, None, num_ctx=job.num_ctx
            ):
                return _loaded(answer, record, stream_headers)
            held = await gateway.jobs.submit(job, terms_of(request))
        except DialectError as error:
            return _refused(error)
        except RkllamaError as error:
            return _refused(explain(error))
        return AnswerResponse(
            held,
            answer,
            errors=errors,
            explain=explain,
            jobs=gateway.jobs,
            metrics=gateway.metrics,
            record=record,
            whole_type=JSON_IN_STREAM,
            stream_headers=stream_headers,
        )

    # ------------------------------------------------------------------ models

    async def models(self) -> Response:
        """`GET /v1/models`: what there is."""
        try:
            return _answered(models.listed(await self._gateway.catalog.tags()))
        except RkllamaError as error:
            return _refused(failure(error, typed=""))

    async def model(self, model: str) -> Response:
        """`GET /v1/models/{model}`: one of them."""
        shown = model
        try:
            name = models.target(model)
            shown = name.display
            return _answered(models.retrieved(await self._gateway.catalog.resolve(name), model))
        except DialectError as error:
            return _refused(error)
        except RkllamaError as error:
            return _refused(failure(error, typed=shown))

    async def _read(self, request: Request, parse: Callable[[bytes], T]) -> T:
        return await self._gateway.bodies.read(request, parse)


def _loaded(answer: Answer, record: Record | None, stream_headers: Mapping[str, str]) -> Response:
    """The answer to a request for a model that is resident, and nothing else."""
    now_ns, loaded = time.time_ns(), Chunk(seq=0, finish="load")
    if record is None:
        answer.add(loaded, elapsed_ns=0)
        return _answered(answer.whole(now_ns=now_ns, elapsed_ns=0))
    events = record(loaded, now_ns=now_ns, elapsed_ns=0)
    return Response(events, headers=dict(stream_headers))
