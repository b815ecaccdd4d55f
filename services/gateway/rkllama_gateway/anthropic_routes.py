"""Anthropic's endpoints: read the body, ask, answer. What anything means is in `dialects.anthropic`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from fastapi import APIRouter
from rkllama_protocol.errors import RkllamaError
from starlette.requests import Request
from starlette.responses import Response

from rkllama_gateway.admission import terms_of
from rkllama_gateway.answering import Answer, AnswerResponse
from rkllama_gateway.connection import JSON, JSON_IN_STREAM, refusal_headers
from rkllama_gateway.dialects.anthropic.answers import CountAnswer, MessageAnswer
from rkllama_gateway.dialects.anthropic.failures import Failures, failure
from rkllama_gateway.dialects.anthropic.jobs import message_job
from rkllama_gateway.dialects.anthropic.requests import (
    MessageRequest,
    parse_count,
    parse_messages,
)
from rkllama_gateway.dialects.errors import DialectError, UnreadBodyError
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.reading import LingeringResponse

EVENTS: Mapping[str, str] = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "connection": "keep-alive",
}
"""Headers of streams (contract 1.3)."""
REQUEST_ID = "request-id"
"""The header in which the SDKs look for the request's id."""


class AnthropicRoutes:
    """The handlers; each is one endpoint."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def router(self) -> APIRouter:
        """The endpoints with their methods (contract 1.1); counting is not among Ollama's."""
        router = APIRouter()
        for path, handler in (
            ("/v1/messages", self.messages),
            ("/v1/messages/count_tokens", self.count_tokens),
        ):
            router.add_api_route(path, handler, methods=["POST"], include_in_schema=False)
        return router

    async def messages(self, request: Request) -> Response:
        """`POST /v1/messages`."""
        return await self._answer(request, parse_messages)

    async def count_tokens(self, request: Request) -> Response:
        """`POST /v1/messages/count_tokens`: how long the same request's prompt is."""
        return await self._answer(request, parse_count)

    async def _answer(self, request: Request, parse: Callable[[bytes], MessageRequest]) -> Response:
        gateway, errors = self._gateway, Failures(_new_id("req"))
        try:
            asked = await gateway.bodies.read(request, parse)
        except DialectError as error:
            return _refused(error, errors, content_type=JSON)

        def explain(error: RkllamaError) -> DialectError:
            return failure(error, typed=asked.model)

        try:
            gateway.refuse_if_draining()
            model = await gateway.catalog.resolve(asked.name)
            job = message_job(asked, model, **gateway.facts())
            held = await gateway.jobs.submit(job, terms_of(request))
        except DialectError as error:
            return _refused(error, errors)
        except RkllamaError as error:
            return _refused(explain(error), errors)
        message = MessageAnswer(
            asked.model,
            message_id=_new_id("msg"),
            stops=asked.stop_sequences,
            one_call=asked.offered.one_call,
        )
        answer: Answer = CountAnswer(asked.model) if asked.count_only else message
        return AnswerResponse(
            held,
            answer,
            errors=errors,
            explain=explain,
            jobs=gateway.jobs,
            metrics=gateway.metrics,
            record=message.record if asked.stream else None,
            whole_type=JSON_IN_STREAM,
            stream_headers=EVENTS,
            headers={REQUEST_ID: errors.request_id},
        )


def _refused(
    error: DialectError, errors: Failures, *, content_type: str = JSON_IN_STREAM
) -> Response:
    headers = {
        "content-type": content_type,
        REQUEST_ID: errors.request_id,
        **refusal_headers(error),
    }
    kind = LingeringResponse if isinstance(error, UnreadBodyError) else Response
    return kind(errors.error_body(error), status_code=error.status, headers=headers)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
