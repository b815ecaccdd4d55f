"""Whether a loaded model has the context that a job needs: asked before it is used, kept, or priced."""

from __future__ import annotations

from rkllama_protocol.messages import ResidentModel

DEFAULT_CONTEXT_TOKENS = 4096
"""Of a model that is loaded without word of its context, at most what it was trained for; it is what the
vendor's demos load with, and what most `.rkllm` models are converted for."""


def context_fits(num_ctx: int | None, resident: ResidentModel) -> bool:
    """Whether a job that asks for `num_ctx` tokens, or for nothing, can use the model as it is loaded.

    Who asks for nothing gets the default or more, not the small context that somebody asked for before.
    """
    if num_ctx is not None:
        return num_ctx in (resident.num_ctx, resident.context_length)
    return resident.num_ctx is None or resident.num_ctx >= DEFAULT_CONTEXT_TOKENS
