"""What a Modelfile says, whatever grammar it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ModelfileError(ValueError):
    """The text is no Modelfile, or one of its values cannot be taken; a sentence for a person."""


class Message(NamedTuple):
    """One message of the conversation that a model begins with."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelfile:
    """The instructions, in their order where that counts; texts are as they were typed."""

    sources: tuple[str, ...] = ()
    """Each FROM: a model's name, or a path."""
    adapters: tuple[str, ...] = ()
    """Each ADAPTER: a path."""
    drafts: tuple[str, ...] = ()
    """Each DRAFT."""
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    """Name and value of each PARAMETER, not typed yet."""
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    tokenizer_repo: str = ""
    """The hub repository that has the tokenizer (the predecessor's HUGGINGFACE_PATH)."""
    ignored: tuple[str, ...] = ()
    """Keys of the predecessor's grammar that mean nothing here."""
