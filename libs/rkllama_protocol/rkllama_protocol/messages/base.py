"""What all messages have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from rkllama_protocol import VERSION
from rkllama_protocol.names import Digest, token


class Message(BaseModel):
    """Anything encoded for the bus. Unknown fields are ignored in the field, refused in tests."""

    # What does not fit is told without its value, which may be somebody's prompt.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    v: int = VERSION


class Part(BaseModel):
    """A piece of a message; it carries no version of its own."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


Token = Annotated[str, AfterValidator(token)]
"""An id that can stand in a subject."""

DigestText = Annotated[str, AfterValidator(lambda text: str(Digest.parse(text)))]
"""`sha256:<hex>`, checked."""
