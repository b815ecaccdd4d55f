"""What a refusal looks like to an OpenAI client (contract 1.3, 1.5): `{"error":{...}}`, also in a stream."""

from __future__ import annotations

from typing import Any

from rkllama_protocol.errors import RkllamaError, from_wire

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.failing import refusal
from rkllama_gateway.dialects.gotext import dumps, quote

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_OTHER = "api_error"


def error_type(status: int) -> str:
    """What kind of error OpenAI calls this status."""
    return _TYPES.get(status, _OTHER)


def envelope(error: DialectError) -> dict[str, Any]:
    """The object that tells an error."""
    told = {"message": error.message, "type": error_type(error.status)}
    return {"error": {**told, "param": None, "code": None}}


def error_body(error: DialectError) -> bytes:
    """An answer of its own, as what went through to a model ends: with a line end."""
    return dumps(envelope(error)) + b"\n"


def refused_body(error: DialectError) -> bytes:
    """An answer of its own to what is no request of this API: without a line end."""
    return dumps(envelope(error))


def error_line(error: DialectError) -> bytes:
    """The last event of a stream that has begun; clients raise it, and no `[DONE]` follows."""
    return b"data: " + dumps(envelope(error)) + b"\n\n"


def failure(error: RkllamaError, *, typed: str, embedding: bool = False) -> DialectError:
    """The refusal for `error`; `typed` is the model's name as the client has it."""
    if error.code != "model_not_found":
        return refusal(error)
    if embedding:
        return DialectError(404, f"model {quote(typed)} not found, try pulling it first")
    return DialectError(404, f"model '{typed}' not found")


def fault(code: str, message: str, *, typed: str) -> DialectError:
    """The refusal for an error as it crossed the wire in a chunk."""
    return failure(from_wire(code, message), typed=typed)
