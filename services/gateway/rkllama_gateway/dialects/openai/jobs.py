"""From a request and the model it names to a job, with Ollama's checks in Ollama's order."""

from __future__ import annotations

from rkllama_protocol.messages import Job, ResolvedModel

from rkllama_gateway.dialects import rules
from rkllama_gateway.dialects.openai.requests import Embedding, Run
from rkllama_gateway.dialects.options import run_options


def run_job(
    asked: Run,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job:
    """The job of a request for text; of kind `load` where there is nothing to answer.

    `seed` and `context_length` are used if neither request nor model has any; a context of 0 is the
    worker's to choose.

    Raises:
        DialectError: The model cannot do what is asked for, or an option of its own is wrong.
    """
    rules.check_completion(model, typed=asked.model, think=asked.think, doing=asked.doing)
    if asked.suffix:
        rules.need(model, "insert")
    if asked.tools:
        rules.need(model, "tools")
    if asked.image_count:
        rules.need(model, "vision")
    options = run_options(
        {**asked.defaults, **asked.options},
        model,
        seed=seed,
        context_length=context_length,
    )
    # What this dialect sets by itself nobody asked for.
    unasked = asked.defaults.keys() - asked.options.keys()
    job = Job(
        job_id=job_id,
        model=model,
        kind="load",
        think=rules.thinking(model, asked=asked.think),
        sampling=options.sampling,
        asked_options=tuple(name for name in options.asked if name not in unasked),
        num_predict=options.num_predict,
        num_ctx=options.num_ctx,
        stop=options.stop,
        num_keep=options.num_keep,
        now=now,
    )
    if not asked.messages:
        return job
    said = {
        "format": asked.format,
        "top_logprobs": asked.top_logprobs,
        "render_only": asked.render_only,
    }
    if asked.suffix:
        prompt = {"prompt": asked.messages[0].content, "suffix": asked.suffix}
        return job.model_copy(update={**said, **prompt, "kind": "completion"})
    chat = {
        "messages": rules.conversation(model, asked.messages),
        "tools": asked.tools,
        "forced_tools": asked.forced_tools,
    }
    return job.model_copy(update={**said, **chat, "kind": "chat"})


def embed_job(
    asked: Embedding,
    model: ResolvedModel,
    *,
    job_id: str,
    now: str,
    seed: int,
    context_length: int = 0,
) -> Job:
    """The job of texts to embed; parameters and errors as `run_job`."""
    rules.check_embedding(model, typed=asked.model, doing="embed")
    options = run_options(
        {},
        model,
        seed=seed,
        context_length=context_length,
    )
    return Job(
        job_id=job_id,
        model=model,
        kind="embed",
        inputs=asked.inputs,
        sampling=options.sampling,
        num_ctx=options.num_ctx,
        now=now,
    )
