"""From a request and the model it names to a job, with Ollama's checks in Ollama's order.

    unload shortcut -> raw rule -> thinking -> capabilities -> not supported here -> options -> load

What this server cannot do yet is refused by name, never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson
from rkllama_protocol.messages import ChatMessage, Job, ResolvedModel

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.ollama.failures import Endpoint
from rkllama_gateway.dialects.ollama.options import run_options
from rkllama_gateway.dialects.ollama.requests import (
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
    Inference,
)


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


def chat_job(
    request: ChatRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
) -> Job | LoadIntent | UnloadIntent:
    """The job of a chat; `seed` is used if neither request nor model has one.

    Raises:
        DialectError: The model, or this server, cannot do what the request asks for.
    """
    common = request.common
    if not request.messages and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    _check_model(common, model, Endpoint.CHAT)
    if request.tools:
        _need(model, "tools")
    if any(message.images for message in request.messages):
        _need(model, "vision")
    _check_server(common)
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed)
    if not request.messages:
        return LoadIntent(job=_job(common, facts, "load"))
    job = _job(common, facts, "chat")
    return job.model_copy(
        update={"messages": _conversation(request, model), "tools": request.tools}
    )


def generate_job(
    request: GenerateRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
) -> Job | LoadIntent | UnloadIntent:
    """The job of a prompt; `seed` is used if neither request nor model has one.

    Raises:
        DialectError: The model, or this server, cannot do what the request asks for.
    """
    common = request.common
    if not request.prompt and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    if request.raw and (request.template or request.system or request.context):
        raise DialectError(400, "raw mode does not support template, system, or context")
    _check_model(common, model, Endpoint.GENERATE)
    if request.suffix:
        _need(model, "insert")
    if request.images:
        _need(model, "vision")
    for name in ("suffix", "template", "context"):
        _refuse(name, asked=bool(getattr(request, name)))
    _refuse("images in raw mode", asked=bool(request.raw and request.images))
    _check_server(common)
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed)
    if not request.prompt:
        return LoadIntent(job=_job(common, facts, "load"))
    if request.raw:
        return _job(common, facts, "completion").model_copy(update={"prompt": request.prompt})
    return _job(common, facts, "chat").model_copy(update={"messages": _prompt(request, model)})


def embed_job(
    request: EmbedRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
) -> Job | LoadIntent | UnloadIntent:
    """The job of texts to embed; a model that talks can do that too (contract 1.5).

    Raises:
        DialectError: The model cannot, or an option is of the wrong type.
    """
    common = request.common
    if not request.inputs and common.keep_alive_s == 0:
        return UnloadIntent(model=model)
    if {"embedding", "completion"}.isdisjoint(model.capabilities):
        raise DialectError(400, f"{quote(common.model)} does not support {request.endpoint}")
    facts = _Facts(model=model, job_id=job_id, now=now, seed=seed)
    if not request.inputs:
        return LoadIntent(job=_job(common, facts, "load"))
    return _job(common, facts, "embed").model_copy(update={"inputs": request.inputs})


def _conversation(request: ChatRequest, model: ResolvedModel) -> tuple[ChatMessage, ...]:
    """The model's SYSTEM stands first unless the client's first message is a system message."""
    messages = model.messages + request.messages
    if model.system and request.messages[0].role != "system":
        return (ChatMessage(role="system", content=model.system), *messages)
    return messages


def _prompt(request: GenerateRequest, model: ResolvedModel) -> tuple[ChatMessage, ...]:
    system = request.system or model.system
    first = (ChatMessage(role="system", content=system),) if system else ()
    user = ChatMessage(role="user", content=request.prompt, images=request.images)
    return (*first, *model.messages, user)


def _job(
    common: Inference,
    facts: _Facts,
    kind: Literal["chat", "completion", "embed", "load"],
) -> Job:
    model = facts.model
    options = run_options(
        common.options,
        model.parameters,
        seed=facts.seed,
        details=model.details,
        vision="vision" in model.capabilities,
    )
    return Job(
        job_id=facts.job_id,
        model=model,
        kind=kind,
        think=common.think,
        sampling=options.sampling,
        asked_options=options.asked,
        num_predict=options.num_predict,
        num_ctx=options.num_ctx,
        stop=options.stop,
        truncate=common.truncate,
        keep_alive_s=common.keep_alive_s,
        now=facts.now,
    )


# ------------------------------------------------------------------------------ checks


def _check_model(common: Inference, model: ResolvedModel, endpoint: Endpoint) -> None:
    if common.think and "thinking" not in model.capabilities:
        raise DialectError(400, f"{quote(common.model)} does not support thinking")
    if "completion" not in model.capabilities:
        raise DialectError(400, f"{quote(common.model)} does not support {endpoint}")


def _check_server(common: Inference) -> None:
    _refuse("think", asked=bool(common.think))
    _refuse("format", asked=_wants_format(common.format))
    _refuse("logprobs", asked=common.logprobs)
    _refuse("_debug_render_only", asked=common.render_only)


def _wants_format(value: object) -> bool:
    """Whether the answer is to follow a grammar; refuses what names none (contract 1.5)."""
    if value is None or value == "":
        return False
    if value == "json" or isinstance(value, dict):
        return True
    shown = quote(orjson.dumps(value).decode())
    raise DialectError(
        500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    )


def _need(model: ResolvedModel, capability: str) -> None:
    if capability not in model.capabilities:
        raise DialectError(400, f"{model.full_name} does not support {capability}")


def _refuse(feature: str, *, asked: bool) -> None:
    if asked:
        raise DialectError(400, f"this server does not support {feature}")
