"""What a pull or a create says while it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rkllama_protocol.names import Digest

EVERY_S = 0.06
"""Between two records of one file, as Ollama does (contract 2.12)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of progress; the last one, `success`, is the stream's to say."""

    status: str
    digest: str = ""
    total: int | None = None
    """Bytes."""
    completed: int | None = None
    """Bytes."""


Emit = Callable[[Record], None]
"""Takes a record; called on the event loop."""


def pulling(digest: Digest, *, total: int, completed: int) -> Record:
    """So much of one file is here."""
    return Record(
        status=f"pulling {digest.short}", digest=str(digest), total=total, completed=completed
    )


class Throttle:
    """Lets one call in `EVERY_S` through."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()

    def due(self) -> bool:
        """Whether it is time again."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + EVERY_S
        return True
