"""The answers that many rows share (contract 1.3, 1.5, 1.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tests.integration.conformance.matching import (
    ABSENT,
    COUNT,
    INT,
    NS,
    UTC,
    Each,
    Matcher,
    Maybe,
    Partial,
    both,
    mismatch,
)
from tests.integration.conformance.table import Expected

JSON = "application/json; charset=utf-8"

DURATIONS = {
    "total_duration": NS,
    "load_duration": NS,
    "prompt_eval_count": COUNT,
    "prompt_eval_duration": NS,
    "eval_count": COUNT,
    "eval_duration": NS,
}
"""Of a final record; integers, in nanoseconds where they are times."""


def refused(status: int, text: str | Matcher) -> Expected:
    """An error at once."""
    return Expected(status=status, kind="json", body={"error": text})


def failed(status: int, text: str | Matcher) -> Expected:
    """An error of what might have been a stream, before its first record."""
    return Expected(status=status, kind="bare", body={"error": text})


def denied(status: int, text: str | Matcher) -> Expected:
    """An error that the contract does not place before or after the work began."""
    return Expected(status=status, kind="error", body={"error": text})


def answered(body: Any, *, status: int = 200) -> Expected:
    """A whole JSON answer."""
    return Expected(status=status, kind="json", body=body)


def records(*expected: Any) -> Expected:
    """A stream of just these records."""
    return Expected(status=200, kind="ndjson", body=list(expected))


def streamed(body: Any) -> Expected:
    """A stream whose list of records is so."""
    return Expected(status=200, kind="ndjson", body=body)


def plain(status: int, text: str) -> Expected:
    """A text without a charset, as Ollama's router writes it."""
    return Expected(status=status, kind="plain", body=text, headers={"content-type": "text/plain"})


def empty(status: int = 200) -> Expected:
    """Nothing, and no type of it."""
    return Expected(
        status=status, kind="empty", headers={"content-length": "0", "content-type": ABSENT}
    )


NOT_FOUND = plain(404, "404 page not found")
SUCCESS = {"status": "success"}
DONE = Expected(status=200, kind="bare", body=SUCCESS)
"""The answer of a pull, push or create that is not streamed."""

# ------------------------------------------------------------------ chat and generate


def said(model: str, content: Any, **message: Any) -> dict[str, Any]:
    """The beginning of a record of a chat."""
    shown = {"role": "assistant", "content": content, **message}
    return {"model": model, "created_at": UTC, "message": shown}


def wrote(model: str, response: Any, **more: Any) -> dict[str, Any]:
    """The beginning of a record of a generate."""
    return {"model": model, "created_at": UTC, "response": response, **more}


def ending(reason: str, **more: Any) -> dict[str, Any]:
    """The end of a final record."""
    return {"done": True, "done_reason": reason, **DURATIONS, **more}


def chat(model: str, content: Any, *, reason: str = "stop", **message: Any) -> Expected:
    """A chat's whole answer."""
    return answered(said(model, content, **message) | ending(reason))


def generated(
    model: str, response: Any, *, reason: str = "stop", context: Any = None, **more: Any
) -> Expected:
    """A generate's whole answer."""
    tokens = Each(INT, least=1) if context is None else context
    return answered(wrote(model, response, **more) | ending(reason, context=tokens))


def loaded(endpoint: Literal["chat", "generate"], model: str, reason: str = "load") -> Expected:
    """The answer to a request without a prompt: one object, without durations."""
    opened = said(model, "") if endpoint == "chat" else wrote(model, "")
    return answered(opened | {"done": True, "done_reason": reason})


@dataclass(frozen=True)
class Stream(Matcher):
    """The records of a streamed answer: what they say together, and the form of each."""

    endpoint: Literal["chat", "generate"]
    model: str
    content: Any
    thinking: Any = ""
    tool_calls: Any = ()
    reason: str = "stop"
    pieces: int = 1
    """At least so many before the last."""
    logprobs: Any = ()
    last: Any = None
    """More about the last record."""

    def complaint(self, actual: Any, where: str) -> str:
        """Say which record is not so, or what they do not say together."""
        *pieces, last = actual
        if len(pieces) < self.pieces:
            return f"{where} has {len(pieces)} records before the last: {actual!r}"
        shape = self._piece()
        found = [mismatch(shape, piece, f"{where}[{at}]") for at, piece in enumerate(pieces)]
        found.append(mismatch(self._last(), last, f"{where}[-1]"))
        together = {
            "content": "".join(self._part(one).get(self._text, "") for one in actual),
            "thinking": "".join(self._part(one).get("thinking", "") for one in actual),
            "tool_calls": [
                call for one in actual for call in self._part(one).get("tool_calls", ())
            ],
            "logprobs": [entry for one in actual for entry in one.get("logprobs", ())],
        }
        for name, value in together.items():
            wanted = getattr(self, name)
            wanted = list(wanted) if isinstance(wanted, tuple) else wanted
            found.append(mismatch(wanted, value, f"{where}: all {name}"))
        return next(filter(None, found), "")

    @property
    def _text(self) -> str:
        return "content" if self.endpoint == "chat" else "response"

    def _part(self, record: Any) -> dict[str, Any]:
        part: dict[str, Any] = record["message"] if self.endpoint == "chat" else record
        return part

    def _piece(self) -> dict[str, Any]:
        return self._opened(ANY_TEXT) | {"done": False, "logprobs": Maybe(Each(ANY_OBJECT))}

    def _last(self) -> Any:
        context = {} if self.endpoint == "chat" else {"context": Each(INT, least=1)}
        logprobs = {"logprobs": Maybe(Each(ANY_OBJECT))}
        shape = self._opened("") | ending(self.reason, **context, **logprobs)
        return shape if self.last is None else both(Partial({"done": True}), self.last)

    def _opened(self, text: Any) -> dict[str, Any]:
        extras = {"thinking": Maybe(ANY_TEXT), "tool_calls": Maybe(Each(ANY_OBJECT, least=1))}
        if self.endpoint == "chat":
            return said(self.model, text, **extras)
        return wrote(self.model, text, **extras)


ANY_OBJECT = Partial({})


class _AnyText(Matcher):
    def complaint(self, actual: Any, where: str) -> str:
        return "" if isinstance(actual, str) else f"{where} is {actual!r}, not a text"


ANY_TEXT = _AnyText()


def chat_stream(model: str, content: Any, **more: Any) -> Expected:
    """A chat's answer, streamed."""
    return streamed(Stream("chat", model, content, **more))


def generate_stream(model: str, response: Any, **more: Any) -> Expected:
    """A generate's answer, streamed."""
    return streamed(Stream("generate", model, response, **more))


def call(name: str, arguments: Any, *, index: int = 0) -> dict[str, Any]:
    """A tool call, as it comes out (contract 2.8)."""
    function = {"index": index, "name": name, "arguments": arguments}
    return {"id": ID, "function": function}


class _Id(Matcher):
    def complaint(self, actual: Any, where: str) -> str:
        fits = isinstance(actual, str) and actual != ""
        return "" if fits else f"{where} is {actual!r}, not an id"


ID = _Id()
"""Opaque, but something."""
