"""Which status and sentence an error that happened further in has, in whatever dialect.

Texts that clients match on are Ollama's own (contract 1.5); where it has no such error, the sentence is
the one that came with it.
"""

from __future__ import annotations

from rkllama_protocol.errors import ExpiredError, OverloadedError, RkllamaError

from rkllama_gateway.dialects.errors import DialectError

BUSY = "server busy, please try again.  maximum pending requests exceeded"
CANCELED = "request canceled"

RETRY_AFTER_S = 1.0

STATUS = {
    "internal": 500,
    "invalid_job": 400,
    "prompt_too_long": 400,
    "unsupported": 400,
    "model_not_found": 404,
    "worker_not_found": 404,
    "invalid_model": 500,
    "storage": 507,
    "upstream": 500,
    "overloaded": 503,
    "expired": 503,
    "no_worker": 503,
    "runtime_failed": 500,
    "load_failed": 500,
    "engine_died": 500,
    "worker_lost": 500,
    "cancelled": 499,
    "unreachable": 503,
}
"""Wire code to status; a code of a newer peer is 500."""

_TEXT = {"overloaded": BUSY, "cancelled": CANCELED}


def refusal(error: RkllamaError) -> DialectError:
    """What a client is told of `error`."""
    status = STATUS.get(error.code, 500)
    retry_after_s = RETRY_AFTER_S if status == 503 else None
    if isinstance(error, OverloadedError | ExpiredError):
        retry_after_s = error.retry_after_s
    text = _TEXT.get(error.code) or error.message or error.code
    return DialectError(status, text, retry_after_s=retry_after_s)
