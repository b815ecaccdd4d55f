"""What an error looks like to an Anthropic client (contract 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from rkllama_protocol.errors import RkllamaError, from_wire

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.failing import refusal
from rkllama_gateway.dialects.gotext import dumps

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
OTHER = "api_error"


def failure(error: RkllamaError, *, typed: str) -> DialectError:
    """The refusal for `error`; `typed` is the model's name as the client has it."""
    if error.code == "model_not_found":
        return DialectError(404, f"model '{typed}' not found")
    return refusal(error)


def fault(code: str, message: str, *, typed: str) -> DialectError:
    """The refusal for an error as it crossed the wire in a chunk."""
    return failure(from_wire(code, message), typed=typed)


@dataclass(frozen=True, slots=True)
class Failures:
    """Writes failures of one request down."""

    request_id: str

    def error_body(self, error: DialectError) -> bytes:
        """The envelope, as an answer of its own."""
        said = {"type": _TYPES.get(error.status, OTHER), "message": error.message}
        return dumps({"type": "error", "error": said, "request_id": self.request_id})

    def error_line(self, error: DialectError) -> bytes:
        """The same as the last event of a stream that has begun."""
        return b"event: error\ndata: " + self.error_body(error) + b"\n\n"
