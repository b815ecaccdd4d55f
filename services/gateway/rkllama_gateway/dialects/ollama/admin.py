"""Requests about models: show, pull, push, verify, copy, delete and create, as far as a body alone tells.

Each parser does what Ollama does before it looks into its store, and gives parsed names; the store
is asked with their `full` form, errors are told with the text as typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rkllama_protocol.messages import ChatMessage
from rkllama_protocol.messages import CreateRequest as StoreCreateRequest
from rkllama_protocol.names import ModelName

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.gojson import decode
from rkllama_gateway.dialects.gotext import quote
from rkllama_gateway.dialects.ollama import bodies
from rkllama_gateway.dialects.ollama.requests import message
from rkllama_gateway.dialects.targets import (
    INVALID,
    REMOTE_DETAILS,
    REQUIRED,
    is_on_hub,
    target,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRequest:
    """What is this model?"""

    model: str
    """As typed."""
    name: ModelName
    verbose: bool = False
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """Bring this model in."""

    model: str
    """As typed."""
    source: str
    """What the store is asked for: a full name, or the place of a file on a hub as typed."""
    stream: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """Send this model to a registry."""

    model: str
    """As typed."""
    name: ModelName
    stream: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """Are this model's files, or everybody's, what they should be? Ollama has no such request."""

    name: ModelName | None = None
    """None for every model."""
    stream: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """Give a model a second name."""

    model: str
    """The source, as typed."""
    source: ModelName
    destination: ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Take a name away."""

    model: str
    name: ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """Make a model from another one, or from uploaded files."""

    model: str
    name: ModelName
    stream: bool = True
    base: ModelName | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()
    quantize: str = ""
    requires: str = ""
    tokenizer_repo: str = ""

    def to_message(self, stream_id: str) -> StoreCreateRequest:
        """What the store is asked."""
        return StoreCreateRequest(
            stream_id=stream_id,
            model=self.name.full,
            base=self.base.full if self.base else "",
            files=dict(self.files),
            adapters=dict(self.adapters),
            template=self.template,
            system=self.system,
            license=self.license,
            parameters=dict(self.parameters),
            messages=self.messages,
            quantize=self.quantize,
            requires=self.requires,
            tokenizer_repo=self.tokenizer_repo,
        )


def parse_show(body: bytes) -> ShowRequest:
    """The body of `/api/show`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.SHOW)
    typed = _model(fields)
    return ShowRequest(
        model=typed,
        name=target(typed, empty=DialectError(400, REQUIRED), remote=REMOTE_DETAILS),
        verbose=fields.get("verbose", False),
        system=fields.get("system", ""),
        options=fields.get("options", {}),
    )


def parse_pull(body: bytes) -> PullRequest:
    """The body of `/api/pull`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.PULL)
    typed = _model(fields)
    if is_on_hub(typed.strip()):
        source = typed.strip()
    else:
        source = target(typed, empty=DialectError(400, INVALID)).full
    return PullRequest(
        model=typed,
        source=source,
        stream=fields.get("stream", True),
    )


def parse_push(body: bytes) -> PushRequest:
    """The body of `/api/push`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    fields = decode(body, bodies.PUSH)
    typed = _model(fields)
    return PushRequest(
        model=typed,
        name=target(typed, empty=DialectError(400, REQUIRED)),
        stream=fields.get("stream", True),
    )


def parse_verify(body: bytes) -> VerifyRequest:
    """The body of `/api/verify`.

    Raises:
        DialectError: It is no such request.
    """
    fields = decode(body, bodies.VERIFY)
    typed = _model(fields)
    return VerifyRequest(
        name=target(typed, empty=DialectError(400, INVALID)) if typed.strip() else None,
        stream=fields.get("stream", True),
    )


def parse_drain(body: bytes) -> str:
    """The body of `/api/drain`: the worker's id.

    Raises:
        DialectError: It is no such request, or names no worker.
    """
    worker_id: str = decode(body, bodies.DRAIN).get("worker", "").strip()
    if not worker_id:
        raise DialectError(400, "worker is required")
    return worker_id


def parse_copy(body: bytes) -> CopyRequest:
    """The body of `/api/copy`.

    Raises:
        DialectError: It is no such request, or one of its names is none.
    """
    fields = decode(body, bodies.COPY)
    names: dict[str, ModelName] = {}
    for side in ("source", "destination"):
        typed = fields.get(side, "")
        invalid = f"{side} {quote(typed)} is invalid"
        names[side] = target(typed, empty=DialectError(400, invalid), invalid=invalid, trim=False)
    return CopyRequest(
        model=fields["source"], source=names["source"], destination=names["destination"]
    )


def parse_delete(body: bytes) -> DeleteRequest:
    """The body of `/api/delete`.

    Raises:
        DialectError: It is no such request, or names no model.
    """
    typed = _model(decode(body, bodies.DELETE))
    invalid = f"name {quote(typed)} is invalid"
    return DeleteRequest(
        model=typed,
        name=target(typed, empty=DialectError(400, REQUIRED), invalid=invalid),
    )


def parse_create(body: bytes) -> CreateRequest:
    """The body of `/api/create`.

    Raises:
        DialectError: It is no such request, names no model, or asks for what is not done here.
    """
    fields = decode(body, bodies.CREATE)
    files: dict[str, str] = fields.get("files", {})
    adapters: dict[str, str] = fields.get("adapters", {})
    _check_files(files)
    _check_files(adapters)
    typed = _model(fields)
    # A name that only means a model elsewhere is not given to one that is here: nobody could use it.
    name = target(typed, empty=DialectError(400, INVALID), trim=False)
    base = fields.get("from", "")
    if not base and "files" not in fields:
        raise DialectError(400, "neither 'from' or 'files' was specified")
    if not base and not files:
        raise DialectError(400, "unknown type")
    if len(adapters) > 1:
        raise DialectError(400, "only one adapter is currently supported")
    for unsupported in _UNSUPPORTED:
        if fields.get(unsupported):
            raise DialectError(400, f"this server does not support {unsupported}")
    return CreateRequest(
        model=typed,
        name=name,
        stream=fields.get("stream", True),
        base=target(base, empty=DialectError(400, INVALID)) if base else None,
        files={} if base else files,
        adapters=adapters,
        template=fields.get("template", ""),
        system=fields.get("system", ""),
        license=_licenses(fields.get("license")),
        parameters=fields.get("parameters", {}),
        messages=tuple(message(item) for item in fields.get("messages", ())),
        quantize=fields.get("quantize") or fields.get("quantization", ""),
        requires=fields.get("requires", ""),
        tokenizer_repo=fields.get("tokenizer_repo", ""),
    )


_OUTSIDE = {"", ".", ".."}
"""Parts that a relative path inside the model's folder does not have."""

_UNSUPPORTED = (
    "draft_files",
    "draft_quantize",
    "parser",
    "remote_host",
    "renderer",
)


def _model(fields: Mapping[str, Any]) -> str:
    """`name` is the old spelling of `model`, and counts where that is empty."""
    typed: str = fields.get("model") or fields.get("name", "")
    return typed


def _check_files(files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if not _OUTSIDE.isdisjoint(name.split("/")) or "\\" in name or "\0" in name:
            raise DialectError(400, "file path must be relative")
        if not digest:
            raise DialectError(400, "invalid digest format")


def _licenses(value: Any) -> tuple[str, ...]:
    """One text or a list of them; anything else is told when the work has begun, as 500."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise DialectError(
            500, f"json: cannot unmarshal {_go(value)} into Go value of type []string"
        )
    for item in value:
        if not isinstance(item, str | None):
            raise DialectError(
                500, f"json: cannot unmarshal {_go(item)} into Go value of type string"
            )
    return tuple(item for item in value if item is not None)


def _go(value: Any) -> str:
    """What Go's decoder calls a decoded value that is no text."""
    match value:
        case bool():
            return "bool"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "number"
