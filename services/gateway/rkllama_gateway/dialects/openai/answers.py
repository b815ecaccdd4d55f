r"""Answers of `/v1/chat/completions` and `/v1/completions`, made from chunks (contract 3.1, 3.2).

data: {"id":"chatcmpl-..","object":"chat.completion.chunk",..,"choices":[{"delta":{..}}]}\n\n
data: {"id":"cmpl-..","object":"text_completion",..,"choices":[{"text":".."}]}\n\n
data: [DONE]\n\n
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from rkllama_protocol.codec import Chunk

from rkllama_gateway.dialects.gotext import dumps
from rkllama_gateway.dialects.openai.failures import fault

FINGERPRINT = "fp_ollama"
DONE = b"data: [DONE]\n\n"


def event(fields: dict[str, Any]) -> bytes:
    """One event of a stream that has no names for its events."""
    return b"data: " + dumps(fields) + b"\n\n"


def tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """A call as OpenAI has it: its arguments are text."""
    function = call["function"]
    arguments = orjson.dumps(function.get("arguments", {})).decode()
    return {
        "id": call["id"],
        "index": function["index"],
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def told_calls(chunk: Chunk, told: Sequence[object], *, one_call: bool) -> Sequence[dict[str, Any]]:
    """The calls of a chunk behind those that are `told`; of `one_call` the first of all."""
    return chunk.tool_calls[: 0 if told else 1] if one_call else chunk.tool_calls


def logprob(entry: dict[str, Any]) -> dict[str, Any]:
    """A token's logprob as OpenAI has it: the list of others is always there."""
    return {**entry, "top_logprobs": entry.get("top_logprobs", [])}


class Tally:
    """What an answer took, in tokens; one for each request."""

    def __init__(self, typed: str) -> None:
        self._typed = typed
        self.prompt = 0
        self.made = 0

    def count(self, chunk: Chunk) -> None:
        """Take in one chunk.

        Raises:
            DialectError: It says that the job failed.
        """
        if chunk.error_code:
            raise fault(chunk.error_code, chunk.error_message, typed=self._typed)
        self.prompt = chunk.prompt_tokens or self.prompt
        self.made += len(chunk.ids)

    def usage(self) -> dict[str, int]:
        """So far."""
        return usage(self.prompt, self.made)


def usage(prompt: int, made: int) -> dict[str, int]:
    """The object of that name."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
    }


class ChatAnswer:
    """One chat's answer, streamed with `record`, or collected with `add` and told with `whole`."""

    def __init__(
        self,
        model: str,
        *,
        job_id: str,
        created: int,
        include_usage: bool,
        images: int,
        one_call: bool = False,
    ) -> None:
        """`model` as typed, `created` in seconds since the epoch; `one_call` drops all but the first."""
        self._model = model
        self._id = f"chatcmpl-{job_id}"
        self._created = created
        self._include_usage = include_usage
        self._images = images
        self._one_call = one_call
        self._tally = Tally(model)
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        """Not told yet: a token's text may come only with a later one."""
        self._finish = ""
        self._rendered = ""
        self._begun = False
        # There is an event for every token: what is the same in all of them is written once.
        self._head = b"data: " + dumps(self._opened("chat.completion.chunk", []))[:-2]

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The events that `chunk` becomes; None where nothing is to be seen.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        new = self._take(chunk)
        events = b""
        if chunk.thinking:
            events += self._delta({"content": "", "reasoning": chunk.thinking})
        if chunk.content or new:
            calls = [tool_call(call) for call in new]
            told = {"tool_calls": calls} if calls else {}
            events += self._delta({"content": chunk.content, **told}, logprobs=True)
        if chunk.finish:
            events += self._end()
        return events or None

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)
        self._content.append(chunk.content)
        self._thinking.append(chunk.thinking)
        self._rendered = self._rendered or chunk.rendered

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if thinking := "".join(self._thinking):
            message["reasoning"] = thinking
        if self._calls:
            message["tool_calls"] = [tool_call(call) for call in self._calls]
        choice = {"index": 0, "message": message, "finish_reason": self._reason()}
        answer = self._opened("chat.completion", [choice | self._told_logprobs()])
        answer["usage"] = self._tally.usage()
        if self._rendered:
            counted = {"image_count": self._images} if self._images else {}
            answer["_debug_info"] = {"rendered_template": self._rendered, **counted}
        return dumps(answer) + b"\n"

    def _take(self, chunk: Chunk) -> Sequence[dict[str, Any]]:
        """Take in a chunk; the calls in it that are told."""
        self._tally.count(chunk)
        new = told_calls(chunk, self._calls, one_call=self._one_call)
        self._calls += new
        self._logprobs += map(logprob, chunk.logprobs)
        self._finish = chunk.finish or self._finish
        return new

    def _reason(self) -> str | None:
        if self._finish == "stop" and self._calls:
            return "tool_calls"
        return self._finish or None

    def _delta(self, delta: dict[str, Any], *, logprobs: bool = False) -> bytes:
        """`role` stands only in the first."""
        first = {} if self._begun else {"role": "assistant"}
        self._begun = True
        choice = {"index": 0, "delta": first | delta, "finish_reason": None}
        return self._event(choice | (self._told_logprobs() if logprobs else {}))

    def _end(self) -> bytes:
        events = b"" if self._begun else self._delta({"content": ""})
        choice = {"index": 0, "delta": {}, "finish_reason": self._reason()}
        events += self._event(choice | self._told_logprobs())
        if self._include_usage:
            events += event(
                {**self._opened("chat.completion.chunk", []), "usage": self._tally.usage()}
            )
        return events + DONE

    def _told_logprobs(self) -> dict[str, Any]:
        if not self._logprobs:
            return {}
        told, self._logprobs = self._logprobs, []
        return {"logprobs": {"content": told}}

    def _event(self, choice: dict[str, Any]) -> bytes:
        return self._head + dumps(choice) + b"]}\n\n"

    def _opened(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


class CompletionAnswer:
    """The same for a completion; what the model thinks is not told."""

    def __init__(self, model: str, *, job_id: str, created: int, include_usage: bool) -> None:
        """As for `ChatAnswer`."""
        self._model = model
        self._id = f"cmpl-{job_id}"
        self._created = created
        self._include_usage = include_usage
        self._tally = Tally(model)
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._told_chars = 0
        self._finish: str = ""
        self._rendered = ""
        # As for a chat.
        self._head = b"data: " + dumps(self._opened([]))[:-2]
        zero = b',"usage":' + dumps(usage(0, 0)) if include_usage else b""
        self._tail = b"]" + zero + b"}\n\n"

    def record(self, chunk: Chunk, *, now_ns: int, elapsed_ns: int) -> bytes | None:
        """The events that `chunk` becomes; None where nothing is to be seen.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)
        events = self._event(chunk.content, None) if chunk.content else b""
        if chunk.finish:
            events += self._event("", chunk.finish)
            if self._include_usage:
                events += event({**self._opened([]), "usage": self._tally.usage()})
            events += DONE
        return events or None

    def add(self, chunk: Chunk, *, elapsed_ns: int) -> None:
        """Keep what `chunk` brings for `whole`.

        Raises:
            DialectError: The chunk says that the job failed.
        """
        self._take(chunk)
        self._text.append(chunk.content)
        self._rendered = self._rendered or chunk.rendered

    def whole(self, *, now_ns: int, elapsed_ns: int) -> bytes:
        """Everything that was added."""
        choice = self._choice("".join(self._text), self._finish or None)
        answer = {**self._opened([choice]), "usage": self._tally.usage()}
        if self._rendered:
            answer["_debug_info"] = {"rendered_template": self._rendered}
        return dumps(answer) + b"\n"

    def _take(self, chunk: Chunk) -> None:
        self._tally.count(chunk)
        self._logprobs += chunk.logprobs
        self._finish = chunk.finish or self._finish

    def _event(self, text: str, finish: str | None) -> bytes:
        return self._head + dumps(self._choice(text, finish)) + self._tail

    def _choice(self, text: str, finish: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"text": text, "index": 0}
        if self._logprobs:
            choice["logprobs"] = self._told_logprobs()
        return choice | {"finish_reason": finish}

    def _told_logprobs(self) -> dict[str, Any]:
        """The older shape, a list for each fact; offsets count the characters of all tokens."""
        entries, self._logprobs = self._logprobs, []
        offsets = []
        for entry in entries:
            offsets.append(self._told_chars)
            self._told_chars += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [
                {each["token"]: each["logprob"] for each in entry.get("top_logprobs", ())}
                for entry in entries
            ],
            "text_offset": offsets,
        }

    def _opened(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }
