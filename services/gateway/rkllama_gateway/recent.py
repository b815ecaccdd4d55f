"""The last requests, for `/api/debug`: what was asked of whom, how it ended, how long it took.

What a request said, and what it was answered, is never kept. The recorder stands around the whole
application and makes a note of each request; who answers it with a job finds that note by `noted`,
since both run in the request's own task.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from rkllama_protocol.codec import Chunk
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

MOST = 100
"""How many requests are remembered."""
PATH_CHARS = 200
UNSEEN = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked for every few seconds: they would push everything else out."""


@dataclass(slots=True, kw_only=True)
class Note:
    """One request. Times are seconds from its arrival, counts are tokens; 0 where there was none."""

    time: str
    """When it arrived; RFC 3339, UTC."""
    endpoint: str
    """Method and path."""
    key: str | None = None
    """Name of the key it was let in with."""
    status: int = 0
    """As sent; 0: the client was gone before."""
    outcome: str = ""
    """`ok`, `refused`, `error` (also after a 200 that had begun), `client_cancel`."""
    model: str = ""
    job_id: str = ""
    attempt: int = 0
    """The one that it ended in."""
    duration_s: float = 0.0
    first_chunk_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0

    def add(self, chunk: Chunk, elapsed_s: float) -> None:
        """Count a chunk of the answer."""
        self.first_chunk_s = self.first_chunk_s or elapsed_s
        self.prompt_tokens += chunk.prompt_tokens
        self.tokens += len(chunk.ids)
        self.prefill_s, self.decode_s = chunk.prefill_ns / 1e9, chunk.decode_ns / 1e9


@dataclass(eq=False, slots=True)
class Recent:
    """The last requests that ended, newest first."""

    _notes: deque[Note] = field(default_factory=lambda: deque(maxlen=MOST))

    def add(self, note: Note) -> None:
        """A request has ended."""
        self._notes.appendleft(note)

    def told(self) -> list[dict[str, Any]]:
        """All that is remembered, as JSON has it."""
        return [asdict(note) for note in self._notes]


_current: ContextVar[Note | None] = ContextVar("note", default=None)


def noted() -> Note | None:
    """The note of the request that this task answers; None if nobody takes notes."""
    return _current.get()


class Recorder:
    """Stands around an application, and takes notes."""

    def __init__(self, app: ASGIApp, recent: Recent) -> None:
        self._app = app
        self._recent = recent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note how it went."""
        if scope["type"] != "http" or scope["path"] in UNSEEN:
            await self._app(scope, receive, send)
            return
        note = Note(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            endpoint=f"{scope['method']} {scope['path'][:PATH_CHARS]}",
        )
        began = time.monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
            await send(message)

        token = _current.set(note)
        try:
            await self._app(scope, receive, sending)
        finally:
            _current.reset(token)
            note.duration_s = time.monotonic() - began
            note.key = scope.get("state", {}).get("key_name")
            note.outcome = note.outcome or _outcome(note.status)
            self._recent.add(note)
            log.debug("request answered", extra=_fields(note))


def _outcome(status: int) -> str:
    if not status:
        return "client_cancel"
    if status >= 500:
        return "error"
    return "refused" if status >= 400 else "ok"


def _fields(note: Note) -> dict[str, Any]:
    """What a log line has of it: nothing that is empty, and no second time."""
    return {name: value for name, value in asdict(note).items() if value and name != "time"}
