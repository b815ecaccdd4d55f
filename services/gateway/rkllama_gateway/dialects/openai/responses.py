r"""Answers of `/v1/responses`, made from chunks: one object, or named and numbered events (contract 3.5).

event: response.output_text.delta\n
data: {"type":"response.output_text.delta","sequence_number":4,..}\n\n
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.openai import failures
from rkllama_gateway.dialects.openai.answers import Tally
from rkllama_gateway.dialects.openai.inputs import ResponseRequest
from rkllama_gateway.dialects.openai.items import Event, Items


class ResponseAnswer:
    """One response, streamed with `record`, or collected with `add` and told with `whole`.

    It also writes down what goes wrong: the last event of a stream tells the whole response.
    """

    def __init__(self, asked: ResponseRequest, *, job_id: str, created: int) -> None:
        """`created` in seconds since the epoch."""
        self._asked = asked
        self._id = f"resp_{job_id}"
        self._created = created
        self._items = Items(job_id, asked.namespaces, one_call=asked.run.one_call)
        self._tally = Tally(asked.run.model)
        self._thought = 0
        """Tokens until the thinking was over."""
        self._finish = ""
        self._events = 0

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The events that `chunk` becomes; None where nothing is to be seen.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)
        out = self._written(self._items.add(chunk))
        if chunk.finish:
            out += self._written(self._items.end(self._status))
            kind = "completed" if self._status == "completed" else "incomplete"
            out += self._written([(f"response.{kind}", {"response": self._whole(now_ns)})])
        return out or None

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)
        list(self._items.add(chunk))

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added."""
        list(self._items.end(self._status))
        return dumps(self._whole(now_ns)) + b"\n"

    def error_body(self, error: DialectError) -> bytes:
        """A failure before the first event."""
        return failures.error_body(error)

    def error_line(self, error: DialectError) -> bytes:
        """A failure after the first event: the response as far as it came, and why it ended."""
        list(self._items.close("incomplete"))
        code = "invalid_prompt" if error.status < 500 else "server_error"
        told = {"status": "failed", "error": {"code": code, "message": error.message}}
        failed = self._object("failed", output=self._items.output) | told
        return self._written([("response.failed", {"response": failed})])

    @property
    def _status(self) -> str:
        return "incomplete" if self._finish == "length" else "completed"

    def _take(self, chunk: Chunk) -> None:
        self._tally.count(chunk)
        if chunk.thinking:
            self._thought = self._tally.made
        self._finish = chunk.finish or self._finish

    def _whole(self, now_ns: int) -> dict[str, Any]:
        prompt, made = self._tally.prompt, self._tally.made
        response = self._object(self._status, output=self._items.output)
        response["usage"] = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": self._thought},
            "total_tokens": prompt + made,
        }
        if self._status == "completed":
            response["completed_at"] = now_ns // 1_000_000_000
        else:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    def _object(self, status: str, *, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "error": None,
            "model": self._asked.run.model,
            "output": output,
            **self._asked.echo,
            "usage": None,
        }

    def _written(self, events: Iterable[Event]) -> bytes:
        """The events on the wire; before the first of them stand two about the response itself."""
        out = b""
        for event in events:
            if not self._events:
                begun = {"response": self._object("in_progress", output=[])}
                out += self._event("response.created", begun)
                out += self._event("response.in_progress", begun)
            out += self._event(*event)
        return out

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        data = dumps({"type": name, "sequence_number": self._events, **fields})
        self._events += 1
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
