"""One job's answer: the only place where chunks meet a client's connection."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from rkllama_policy.admission import Place
from rkllama_protocol.codec import Chunk
from rkllama_protocol.errors import CancelledError, RkllamaError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rkllama_gateway.connection import JSON, LINES, Connection, ErrorWriter, watching
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.job import HeldJob
from rkllama_gateway.jobs import Jobs
from rkllama_gateway.metrics import AnswerFigures, Metrics

PIECE_BYTES = 2**16
"""Of a stream, what is sent at once at most, and one chunk's lines more."""
IGNORED_OPTIONS = "x-rkllama-ignored-options"
"""Names the options that the model's runtime cannot honour, of those that were asked for."""


QUEUE_POSITION = "x-rkllama-queue-position"
"""How many requests waited before this one when it was accepted."""
PREDICTED_WAIT = "x-rkllama-predicted-wait"
"""Seconds to its first token as predicted then; absent while no worker could run the model."""


def place_headers(place: Place | None) -> dict[str, str]:
    """Where a request stood in the queue when it was accepted."""
    if place is None:
        return {}
    headers = {QUEUE_POSITION: str(place.ahead)}
    if place.wait_s < math.inf:
        headers[PREDICTED_WAIT] = f"{place.wait_s:.1f}"
    return headers


class Answer(Protocol):
    """How a dialect writes chunks down. Times are nanoseconds."""

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep the chunk for `whole`."""

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """What a client that does not stream gets."""


class Record(Protocol):
    """How a dialect that streams writes one chunk down: the lines of it, if there are any."""

    def __call__(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """What the client gets for the chunk. Times are nanoseconds."""


class AnswerResponse(Response):
    """A response that plays a held job to its client, and lets the job go at its end."""

    def __init__(
        self,
        held: HeldJob,
        answer: Answer,
        *,
        errors: ErrorWriter,
        explain: Callable[[RkllamaError], DialectError],
        jobs: Jobs,
        metrics: Metrics,
        record: Record | None = None,
        whole_type: str = JSON,
        stream_headers: Mapping[str, str] = LINES,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`explain` puts a failure into the dialect's words, `errors` writes those down.

        `record` is given for a client that gets a stream, with `stream_headers`; another one gets
        one object, of the content type `whole_type`. Every answer has `headers`, failures too.
        """
        super().__init__()
        self._held = held
        self._answer = answer
        self._errors = errors
        self._explain = explain
        self._jobs = jobs
        self._figures = AnswerFigures(metrics, held)
        self._record = record
        self._whole_type = whole_type
        self._stream_headers = stream_headers
        self._with_headers = headers
        self._error = ""
        """Code of what it failed with."""
        self._began_ns = time.monotonic_ns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; returns when the last byte is sent, or the client is gone."""
        connection = Connection(
            send,
            self._errors,
            stream=self._record is not None,
            whole_type=self._whole_type,
            stream_headers=self._stream_headers,
        )
        for name, value in {**place_headers(self._held.place), **self._with_headers}.items():
            connection.add_header(name, value)
        try:
            async with watching(receive, lambda: self._jobs.cancel(self._held)):
                await self._play(connection)
        finally:
            self._figures.end(self._error, self._elapsed_ns() / 1e9)
            await self._jobs.release(self._held)

    async def _play(self, connection: Connection) -> None:
        try:
            async for batch in self._jobs.chunks(self._held):
                await self._pass_on(batch, connection)
        except CancelledError as error:
            self._error = error.code
        except DialectError as error:
            self._error = RkllamaError.code
            await connection.refuse(error)
        except RkllamaError as error:
            self._error = error.code
            await connection.refuse(self._explain(error))
        else:
            await self._finish(connection)

    async def _pass_on(self, batch: list[Chunk], connection: Connection) -> None:
        """Write down all that has arrived; what came before a failure goes out before it.

        In pieces: the connection holds the answer back between them while its client does not read.
        """
        lines: list[bytes] = []
        size = 0
        now_ns, elapsed_ns = time.time_ns(), self._elapsed_ns()
        try:
            for chunk in batch:
                self._figures.add(chunk, elapsed_ns / 1e9)
                if chunk.ignored_options:
                    connection.add_header(IGNORED_OPTIONS, ", ".join(sorted(chunk.ignored_options)))
                if self._record is None:
                    self._answer.add(chunk, elapsed_ns=elapsed_ns)
                    continue
                line = self._record(chunk, now_ns=now_ns, elapsed_ns=elapsed_ns)
                if line is None:
                    continue
                lines.append(line)
                size += len(line)
                if size > PIECE_BYTES:
                    ready, lines, size = b"".join(lines), [], 0
                    await connection.lines(ready)
        finally:
            if lines:
                await connection.lines(b"".join(lines))

    async def _finish(self, connection: Connection) -> None:
        if connection.started:
            await connection.end()
        else:
            await connection.whole(
                self._answer.whole(now_ns=time.time_ns(), elapsed_ns=self._elapsed_ns())
            )

    def _elapsed_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns
