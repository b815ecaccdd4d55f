"""What a model is: its layers, its facts, and what a job needs of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rkllama_protocol.messages.base import DigestText, Message, Part

WEIGHTS_TYPE = "application/vnd.ollama.image.model"
ADAPTER_TYPE = "application/vnd.ollama.image.adapter"
TEMPLATE_TYPE = "application/vnd.ollama.image.template"
"""Media types of the layers that a worker tells apart (contract 7)."""


class Descriptor(Part):
    """One layer of a manifest."""

    media_type: str
    digest: DigestText
    size: int = Field(ge=0)
    name: str = ""
    """The file's name as it came, such as `tokenizer.json`; empty for layers that are no file."""


class ChatMessage(Part):
    """One message of a conversation, in the shape chat templates expect."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    """Base64, standard alphabet."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class ModelDetails(Part):
    """What `tags` and `show` print about a model; what is not known is empty, never guessed."""

    parent_model: str = ""
    format: str = ""
    """`gguf` or `rkllm`; it chooses the runtime."""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int | None = None
    embedding_length: int | None = None


class ResolvedModel(Message):
    """A name, and everything a job on it depends on."""

    name: str
    """Display form, with the spelling the store keeps."""
    full_name: str
    digest: DigestText
    """Of the manifest."""
    size: int
    modified_at: str
    """RFC 3339 with the store's local offset, as Ollama shows it."""
    details: ModelDetails
    capabilities: tuple[str, ...] = ()
    layers: tuple[Descriptor, ...] = ()
    system: str = ""
    template: str = ""
    """A Jinja chat template that replaces the one among the model's files."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()
    license: tuple[str, ...] = ()
    requires: str = ""
    """The level of Ollama's API that it needs, such as `0.14.0`."""
