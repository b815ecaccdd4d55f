"""A refusal that no route gives, in the words of the dialect that is spoken at the path."""

from __future__ import annotations

from rkllama_gateway.dialects.access import is_anthropic, is_openai
from rkllama_gateway.dialects.anthropic.failures import Failures
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.openai.failures import refused_body

HEAD_TOO_LARGE = DialectError(431, "request header fields too large")
TOO_SLOW = DialectError(408, "the request did not arrive in time")


def too_many_connections() -> DialectError:
    """There is a bound on connections, and this one is beyond it."""
    return DialectError(503, "too many connections, please try again", retry_after_s=1.0)


def too_often(wait_s: float) -> DialectError:
    """This key, or address, asks too often."""
    return DialectError(429, "too many requests, please try again later", retry_after_s=wait_s)


def refusal_body(path: str, error: DialectError, *, request_id: str) -> bytes:
    """The refusal as an answer of its own.

    Args:
        path: Decoded.
        error: What to say.
        request_id: 24 hex digits, which only one dialect shows.
    """
    if is_anthropic(path):
        return Failures(f"req_{request_id}").error_body(error)
    if is_openai(path):
        return refused_body(error)
    return dumps({"error": error.message})
