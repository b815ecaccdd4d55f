"""Bytes to messages and back.

Messages are JSON by pydantic. A chunk, of which there is one for every token, is a plain dataclass
written by orjson (pydantic costs 7 us more a line, which is half of all that a line costs).
Decoders ignore fields they do not know, so that a newer peer can speak; `strict()` makes them
refuse, and the tests run that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from rkllama_protocol import VERSION
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import Message

M = TypeVar("M", bound=Message)


class _Mode:
    strict = False


class MalformedMessageError(RkllamaError):
    """Bytes that are no message of the expected kind."""

    code = "malformed_message"


@contextmanager
def strict() -> Iterator[None]:
    """Refuse unknown fields inside this context; for tests."""
    with _mode(strict=True):
        yield


@contextmanager
def tolerant() -> Iterator[None]:
    """Ignore unknown fields inside this context, as outside of tests; for tests of that."""
    with _mode(strict=False):
        yield


@contextmanager
def _mode(*, strict: bool) -> Iterator[None]:
    before, _Mode.strict = _Mode.strict, strict
    try:
        yield
    finally:
        _Mode.strict = before


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return message.model_dump_json().encode()


def decode(kind: type[M], data: bytes) -> M:
    """The message that `data` holds.

    Raises:
        MalformedMessageError: It is no such message, or of another protocol version.
    """
    try:
        message = kind.model_validate_json(data)
    except ValidationError as error:
        raise MalformedMessageError(f"not a {kind.__name__}: {error.errors()[0]['msg']}") from error
    _check_version(message.v)
    if _Mode.strict:
        _refuse_unknown(kind, orjson.loads(data))
    return message


def _check_version(version: int) -> None:
    if version != VERSION:
        raise MalformedMessageError(f"protocol version {version}, this is {VERSION}")


def _refuse_unknown(kind: type[BaseModel], data: dict[str, Any]) -> None:
    if unknown := data.keys() - kind.model_fields.keys():
        raise MalformedMessageError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One streamed piece of an answer; the terminal one has `finish` or `error_code`.

    `seq` counts from 0 without a gap within an attempt. Every generated id is carried, also where
    its text is held back. Durations are nanoseconds, cumulative over the attempt; `0` until known.
    """

    seq: int
    ids: tuple[int, ...] = ()
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()
    """Of each id, where asked for: `token`, `logprob`, `bytes`, and `top_logprobs` of the same."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Terminal: of the prompt, those that were held already and not computed again."""
    prompt_hash: str = ""
    prefill_ns: int = 0
    decode_ns: int = 0
    finish: str = ""
    """Why it ended: `stop`, `length`, `load`; empty while it goes on."""
    stopped_by: str = ""
    """Terminal: the stop string of the job that came, if one did."""
    error_code: str = ""
    error_message: str = ""
    ignored_options: tuple[str, ...] = ()
    """Options that were asked for and that the runtime cannot honour; on the first chunk."""
    rendered: str = ""
    """The prompt's text, for a job that asks for nothing else."""
    vector: str = ""
    """An embedding: base64 of its little-endian float32 values."""
    context: tuple[int, ...] = ()
    """Terminal: ids of the whole prompt and answer."""

    @property
    def terminal(self) -> bool:
        """Whether nothing of this attempt follows."""
        return bool(self.finish or self.error_code)


_CHUNK_FIELDS = {field.name: field.default for field in fields(Chunk)}
_TUPLES = ("ids", "tool_calls", "logprobs", "ignored_options", "context")


def encode_chunk(chunk: Chunk) -> bytes:
    """The bytes of a chunk; fields at their default are left out."""
    out: dict[str, Any] = {"v": VERSION}
    for name, default in _CHUNK_FIELDS.items():
        value = getattr(chunk, name)
        if value != default:
            out[name] = value
    return orjson.dumps(out)


def decode_chunk(data: bytes) -> Chunk:
    """The chunk that `data` holds.

    Raises:
        MalformedMessageError: It is no chunk, or of another protocol version.
    """
    try:
        raw = orjson.loads(data)
        _check_version(raw.pop("v"))
        if unknown := raw.keys() - _CHUNK_FIELDS.keys():
            if _Mode.strict:
                raise MalformedMessageError(f"a chunk has no {', '.join(sorted(unknown))}")
            for name in unknown:
                del raw[name]
        for name in _TUPLES:
            if name in raw:
                raw[name] = tuple(raw[name])
        return Chunk(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MalformedMessageError(f"not a chunk: {error}") from error
