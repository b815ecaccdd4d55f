"""From a request and the model it names to a job, with Ollama's checks in Ollama's order.

    unload shortcut -> raw rule -> thinking -> capabilities -> options -> load -> template -> format

What a model's runtime cannot do (logprobs, say) is refused where the job runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson
from rkllama_modelfile import TemplateError, UnknownTemplateError, is_go, twin
from rkllama_protocol.messages import ChatMessage, Job, ResolvedModel

from rkllama_gateway.dialects import rules
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.ollama.failures import Endpoint
from rkllama_gateway.dialects.ollama.requests import (
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
    Inference,
)
from rkllama_gateway.dialects.options import run_options


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadIntent:
    """Nothing to answer, only a model to have ready."""

    job: Job
    """Of kind `load`; where the model is resident a `Keep` does the same."""

    @property
    def keep_alive_s(self) -> float | None:
        """How long it is to stay."""
        return self.job.keep_alive_s


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadIntent:
    """Nothing to answer, and nothing to keep: the model goes, wherever it is."""

    model: ResolvedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the caller adds to a request."""

    model: ResolvedModel
    job_id: str
    now: str
    seed: int
    context_length: int


def chat_job(
    request: ChatRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job | LoadIntent | UnloadIntent:
    """The job of a chat.

    `seed` and `context_length` are used if neither request nor model has any; a context of 0 is the
    worker's to choose.

    Raises:
        DialectError: The model, or this server, cannot do what the request asks for.
    """
    common = request.common
    if not request.messages and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    rules.check_completion(model, typed=common.model, think=common.think, doing=Endpoint.CHAT)
    if request.tools:
        rules.need(model, "tools")
    if request.image_count:
        rules.need(model, "vision")
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed, context_length=context_length)
    job = _job(common, facts, "chat")
    if not request.messages:
        return _load(job)
    return _answered(
        common, job, messages=rules.conversation(model, request.messages), tools=request.tools
    )


def generate_job(
    request: GenerateRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job | LoadIntent | UnloadIntent:
    """The job of a prompt; parameters and errors as `chat_job`."""
    common = request.common
    if not request.prompt and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    if request.raw and (request.template or request.system or request.context):
        raise DialectError(400, "raw mode does not support template, system, or context")
    rules.check_completion(model, typed=common.model, think=common.think, doing=Endpoint.GENERATE)
    if request.suffix:
        rules.need(model, "insert")
    if request.images:
        rules.need(model, "vision")
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed, context_length=context_length)
    job = _job(common, facts, "completion" if request.raw or request.suffix else "chat")
    if not request.prompt:
        return _load(job)
    if request.images and job.kind == "completion":
        raise DialectError(400, "this server does not support images without a template")
    if request.raw:
        return _answered(common, job, prompt=request.prompt)
    rest = {"template": _template(request.template), "context": request.context}
    if request.suffix:
        return _answered(common, job, prompt=request.prompt, suffix=request.suffix, **rest)
    return _answered(common, job, messages=_prompt(request, model), **rest)


def embed_job(
    request: EmbedRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job | LoadIntent | UnloadIntent:
    """The job of texts to embed; a model that talks can do that too (contract 1.5).

    Raises:
        DialectError: The model cannot, or an option is of the wrong type.
    """
    common = request.common
    if not request.inputs and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    rules.check_embedding(model, typed=common.model, doing=request.endpoint)
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed, context_length=context_length)
    job = _job(common, facts, "embed")
    if not request.inputs:
        return _load(job)
    return job.model_copy(update={"inputs": request.inputs})


def _prompt(request: GenerateRequest, model: ResolvedModel) -> tuple[ChatMessage, ...]:
    system = request.system or model.system
    first = (ChatMessage(role="system", content=system),) if system else ()
    user = ChatMessage(role="user", content=request.prompt, images=request.images)
    embedded = () if request.context else model.messages
    return (*first, *embedded, user)


def _job(
    common: Inference,
    facts: _Facts,
    kind: Literal["chat", "completion", "embed"],
) -> Job:
    model = facts.model
    options = run_options(
        common.options,
        model,
        seed=facts.seed,
        context_length=facts.context_length,
    )
    return Job(
        job_id=facts.job_id,
        model=model,
        kind=kind,
        think=rules.thinking(model, asked=common.think),
        sampling=options.sampling,
        asked_options=options.asked,
        num_predict=options.num_predict,
        num_ctx=options.num_ctx,
        most_input_tokens=options.asked_ctx if kind == "embed" else None,
        stop=options.stop,
        truncate=common.truncate,
        shift=common.shift,
        num_keep=options.num_keep,
        keep_alive_s=common.keep_alive_s,
        now=facts.now,
    )


def _load(job: Job) -> LoadIntent:
    return LoadIntent(job=job.model_copy(update={"kind": "load"}))


def _answered(common: Inference, job: Job, **asked: Any) -> Job:
    """The job with what only an answer needs; a load takes no notice of that, be it wrong."""
    return job.model_copy(
        update={
            **asked,
            "format": _format(common.format),
            "top_logprobs": common.top_logprobs if common.logprobs else None,
            "render_only": common.render_only,
        }
    )


def _template(text: str) -> str:
    """The Jinja template that does what `text` asks for, which is in Go's language or in Jinja's."""
    if not is_go(text):
        return text
    try:
        return twin(text)
    except UnknownTemplateError as error:
        raise DialectError(500, f"template: {error}") from None
    except TemplateError as error:
        raise DialectError(500, str(error)) from None


def _format(value: Any) -> Any:
    """What the answer is to follow, or None; refuses what names nothing (contract 1.5)."""
    if value is None or value == "":
        return None
    if value == "json" or isinstance(value, dict):
        return value
    shown = quote(orjson.dumps(value).decode())
    raise DialectError(
        500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    )
