"""What an error that happened further in looks like to an Ollama client: one status, one sentence.

Texts that clients match on are Ollama's own (contract 1.5); where Ollama has no such error, the
sentence is the one that came with it.
"""

from __future__ import annotations

from enum import StrEnum

from rkllama_protocol.errors import RkllamaError, from_wire

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.failing import refusal
from rkllama_gateway.dialects.gotext import dumps, quote

NOT_IN_REGISTRY = "pull model manifest: file does not exist"
"""The CLI looks for this very phrase (contract 2.12)."""

NO_REGISTRY = "this server has no registry to push models to"


class Endpoint(StrEnum):
    """The native endpoints that can pass on an error of a worker or of the store."""

    GENERATE = "generate"
    CHAT = "chat"
    EMBED = "embed"
    EMBEDDINGS = "embeddings"
    TAGS = "tags"
    PS = "ps"
    SHOW = "show"
    PULL = "pull"
    VERIFY = "verify"
    PUSH = "push"
    CREATE = "create"
    COPY = "copy"
    DELETE = "delete"
    DRAIN = "drain"


def failure(error: RkllamaError, endpoint: Endpoint, *, model: str = "") -> DialectError:
    """The refusal for `error`; `model` is the name as typed, for `show` its display form."""
    if error.code == "model_not_found":
        return model_not_found(endpoint, model)
    return refusal(error)


def fault(code: str, message: str, endpoint: Endpoint, *, model: str = "") -> DialectError:
    """The refusal for an error as it crossed the wire, in a chunk or in a record of progress."""
    refused = failure(from_wire(code, message), endpoint, model=model)
    if endpoint is Endpoint.EMBEDDINGS and refused.status == 400:
        # The older endpoint tells every failure of a run as one of the server (contract 1.5).
        return DialectError(500, refused.message)
    return refused


def model_not_found(endpoint: Endpoint, model: str) -> DialectError:
    """No such model, in the words and the quotes of that endpoint."""
    match endpoint:
        case Endpoint.PULL | Endpoint.CREATE:
            return DialectError(500, NOT_IN_REGISTRY)
        case Endpoint.EMBED | Endpoint.EMBEDDINGS:
            return DialectError(404, f"model {quote(model)} not found, try pulling it first")
        case Endpoint.COPY:
            return DialectError(404, f"model {quote(model)} not found")
        case _:
            return DialectError(404, f"model '{model}' not found")


def error_body(error: DialectError) -> bytes:
    """`{"error":"..."}`, as an answer of its own."""
    return dumps({"error": error.message})


def error_line(error: DialectError) -> bytes:
    """The same as the last line of a stream that has begun."""
    return error_body(error) + b"\n"
