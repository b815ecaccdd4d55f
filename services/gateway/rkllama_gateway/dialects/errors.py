"""How a dialect refuses a request: a status and one sentence."""

from __future__ import annotations


class DialectError(Exception):
    """A refusal that the client is told about; each dialect draws its own body around it."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s
        """Value of the header `Retry-After`, where there is one."""


class UnreadBodyError(DialectError):
    """A refusal of a body that was not read to its end."""
