"""When to try again: `stamina` does the waiting, here is only what may pass, and how long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import stamina
from rkllama_protocol.errors import UpstreamError

LONGEST_WAIT_S = 300.0
"""A hub that asks for more than this is told about instead."""
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 30.0


class PassingError(UpstreamError):
    """Trouble that may be over at the next attempt: a broken line, a busy server."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def attempts(most: int) -> AsyncIterator[stamina.Attempt]:
    """Contexts to try something in, at most so often, with growing pauses in between."""
    return stamina.retry_context(
        on=_wait,
        attempts=most,
        timeout=None,
        wait_initial=FIRST_WAIT_S,
        wait_max=MOST_WAIT_S,
    )


def _wait(error: Exception) -> bool | float:
    if not isinstance(error, PassingError):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else False


def retry_after_s(value: str) -> float | None:
    """Seconds that a `Retry-After` header asks for; dates are not understood."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
