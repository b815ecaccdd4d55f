"""What a server's answers hold, as far as the command line reads them (Ollama's API)."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

Json = dict[str, Any]


def _unless_null(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_unless_null)]


class _Answer(BaseModel):
    # `model_info` is Ollama's name, and pydantic would keep such names for itself.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


A = TypeVar("A", bound=_Answer)


class Details(_Answer):
    """What a model is."""

    format: Text = ""
    family: Text = ""
    parent_model: Text = ""
    parameter_size: Text = ""
    quantization_level: Text = ""


class Model(_Answer):
    """One row of `/api/tags`, or of `/api/ps`."""

    name: str
    digest: Text = ""
    size: int = 0
    modified_at: Text = ""
    expires_at: Text = ""
    size_vram: int = 0
    context_length: int = 0


class Models(_Answer):
    """The answer of `/api/tags` and `/api/ps`."""

    models: tuple[Model, ...] = ()


class Message(_Answer):
    """One turn of a conversation; `thinking` only in answers."""

    role: str = "assistant"
    content: Text = ""
    thinking: Text = ""


class Facts(_Answer):
    """The answer of `/api/show`."""

    license: Text = ""
    modelfile: Text = ""
    parameters: Text = ""
    template: Text = ""
    system: Text = ""
    details: Details = Details()
    messages: tuple[Message, ...] = ()
    model_info: dict[str, Any] = {}
    projector_info: dict[str, Any] | None = None
    capabilities: tuple[str, ...] = ()


class Progress(_Answer):
    """One record of `/api/pull`, `/api/create` or `/api/verify`."""

    status: str = ""
    digest: Text = ""
    total: int = 0
    completed: int = 0


class Timings(_Answer):
    """The last record's account of an answer, in tokens and nanoseconds."""

    done_reason: Text = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class Piece(Timings):
    """One record of `/api/chat`; the last one is `done`."""

    message: Message = Message()
    done: bool = False
