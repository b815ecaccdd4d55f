"""What is said to the model store, and what it answers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rkllama_protocol.messages.base import Message, Part, Token
from rkllama_protocol.messages.models import ChatMessage, ResolvedModel


class ResolveRequest(Message):
    """What does this name mean?"""

    model: str


class TagsRequest(Message):
    """Which models are there?"""


class TagsReply(Message):
    """Every model, newest first, without what only a job needs: one message has to hold them all."""

    models: tuple[ResolvedModel, ...] = ()


class ShowRequest(Message):
    """Everything about one model."""

    model: str
    verbose: bool = False


class ShowReply(Message):
    """A resolved model and the facts read from its files."""

    model: ResolvedModel
    template: str = ""
    """The chat template in its files, where it has none of its own; empty also if that is very long."""
    model_info: dict[str, Any] = Field(default_factory=dict)
    tensors: tuple[dict[str, Any], ...] = ()


class CopyRequest(Message):
    """Give a model a second name."""

    source: str
    destination: str


class DeleteRequest(Message):
    """Take a name away, and the blobs nobody else needs."""

    model: str


class CreateRequest(Message):
    """Make a model from another one, or from uploaded files. Progress goes to `stream_id`."""

    stream_id: Token
    model: str
    base: str = ""
    """Ollama's `from`."""
    files: dict[str, str] = Field(default_factory=dict)
    """File name to digest, as the client sent it."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """LoRA adapters, file name to digest; at most one."""
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()
    quantize: str = ""
    """The quantisation that the weights shall get."""
    requires: str = ""
    """The level of Ollama's API that the model needs."""
    tokenizer_repo: str = ""
    """The hub repository, `<user>/<repo>`, that has the tokenizer if the files do not."""


class PullRequest(Message):
    """Bring a model in. Progress goes to `stream_id`."""

    stream_id: Token
    model: str


class VerifyRequest(Message):
    """Read a model's blobs, or with an empty name every model's, and compare them with their digests.

    Progress goes to `stream_id`: a record for each blob, and an error that names what is damaged.
    """

    stream_id: Token
    model: str = ""


class StreamCancel(Message):
    """Nobody listens to this stream of progress any more."""

    stream_id: Token


class Accepted(Message):
    """The request was understood; what it asks for is done, or goes on elsewhere."""


class Fault(Part):
    """An error as it crosses the wire."""

    code: str
    message: str


class Progress(Message):
    """One record of a pull or create; one with neither status nor error only says "still here"."""

    seq: int
    status: str = ""
    digest: str = ""
    total: int | None = None
    completed: int | None = None
    error: Fault | None = None
    done: bool = False


class ModelChanged(Message):
    """A name was created, replaced or deleted."""

    name: str
    full_name: str
