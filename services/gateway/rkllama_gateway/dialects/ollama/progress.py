"""Records of `/api/pull`, `/api/create` (contract 2.12, 2.14) and `/api/verify`, which is ours."""

from __future__ import annotations

from rkllama_protocol.messages import Progress

from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.ollama.failures import Endpoint, fault

WHOLE = b'{"status":"success"}'
"""The answer where the client wants no stream, of one that came to its end."""


def record(progress: Progress, endpoint: Endpoint, *, model: str = "") -> bytes | None:
    r"""One line with its `\n`; None for a record that only says that work goes on.

    Raises:
        DialectError: The record says that it failed.
    """
    if progress.error:
        raise fault(progress.error.code, progress.error.message, endpoint, model=model)
    if not progress.status:
        return None

    shown: dict[str, str | int] = {"status": progress.status}
    if progress.digest:
        shown["digest"] = progress.digest
    if progress.total:
        shown["total"] = progress.total
    if progress.completed:
        shown["completed"] = progress.completed
    return dumps(shown) + b"\n"
