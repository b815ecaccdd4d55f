"""What Ollama asks its makers' servers for; behind this server there is no cloud (contract 2.18-2.20)."""

from __future__ import annotations

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import dumps

NO_ACCOUNT = "account unavailable"
"""What Ollama says where it cannot reach its makers' servers."""
NO_SEARCH = "ollama cloud is disabled: web search is unavailable"
NO_FETCH = "ollama cloud is disabled: web fetch is unavailable"
MISSING_BODY = "missing request body"


def no_account() -> DialectError:
    """The refusal of everything that has to do with an account."""
    return DialectError(503, NO_ACCOUNT)


def refusal(body: bytes, text: str) -> DialectError:
    """The refusal of a request to the web; what the body asks for is not looked at."""
    return DialectError(403, text) if body.strip() else DialectError(400, MISSING_BODY)


def recommendations() -> bytes:
    """This server recommends no models."""
    return dumps({"recommendations": []})
