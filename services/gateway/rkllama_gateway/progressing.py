"""A pull, create or verify, record by record, to one client; it is cancelled when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Progress
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rkllama_gateway.connection import JSON_IN_STREAM, Connection, watching
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama import failures, progress
from rkllama_gateway.dialects.ollama.failures import Endpoint, failure


class ProgressResponse(Response):
    """A response that plays the store's records to its client."""

    def __init__(
        self,
        records: AsyncGenerator[Progress, None],
        endpoint: Endpoint,
        *,
        model: str,
        stream: bool,
    ) -> None:
        super().__init__()
        self._records = records
        self._endpoint = endpoint
        self._model = model
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; returns when the last byte is sent, or the client is gone."""
        # Contract 1.3: these answers come without a charset, streamed or not.
        connection = Connection(send, failures, stream=self._stream, whole_type=JSON_IN_STREAM)
        async with asyncio.TaskGroup() as tasks, aclosing(self._records):
            playing = tasks.create_task(self._play(connection))
            # Cancelled, the generator tells the store on its way out.
            async with watching(receive, playing.cancel):
                await asyncio.wait({playing})

    async def _play(self, connection: Connection) -> None:
        try:
            async for each in self._records:
                line = progress.record(each, self._endpoint, model=self._model)
                if self._stream and line is not None:
                    await connection.lines(line)
        except DialectError as error:
            await connection.refuse(error)
        except RkllamaError as error:
            await connection.refuse(failure(error, self._endpoint, model=self._model))
        else:
            if connection.started:
                await connection.end()
            else:
                await connection.whole(progress.WHOLE)
