"""From a request and the model it names to a job (contract 4)."""

from __future__ import annotations

from rkllama_protocol.messages import Job, ResolvedModel

from rkllama_gateway.dialects import rules
from rkllama_gateway.dialects.anthropic.requests import MessageRequest
from rkllama_gateway.dialects.options import run_options


def message_job(
    request: MessageRequest,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job:
    """The job of a message, or of counting its tokens.

    `seed` is used if the model has none, `context_length` likewise; a context of 0 is the worker's to
    choose. Thinking that the model cannot do is not asked for, rather than refused (contract 4).

    Raises:
        DialectError: The model cannot do what the request asks for.
    """
    think = request.think if "thinking" in model.capabilities else None
    rules.check_completion(model, typed=request.model, think=think, doing="chat")
    if request.offered.tools:
        rules.need(model, "tools")
    if request.image_count:
        rules.need(model, "vision")
    options = run_options(
        request.options,
        model,
        seed=seed,
        context_length=context_length,
    )
    return Job(
        job_id=job_id,
        model=model,
        kind="chat",
        messages=rules.conversation(model, request.messages),
        tools=request.offered.tools,
        forced_tools=request.offered.forced,
        # Whoever counts wants to know of what would be cut off, too.
        render_only=request.count_only,
        truncate=not request.count_only,
        think=rules.thinking(model, asked=think),
        format=request.format,
        sampling=options.sampling,
        asked_options=options.asked,
        num_predict=options.num_predict,
        num_ctx=options.num_ctx,
        stop=options.stop,
        num_keep=options.num_keep,
        now=now,
    )
