"""Speech to text, as far as it goes: no model here hears, so that a form is read and refused (contract 3.6).

The texts are those of Ollama's middleware and of Go's `mime/multipart`.
"""

from __future__ import annotations

from collections.abc import Mapping
from email import message_from_bytes, policy

from rkllama_protocol.messages import ResolvedModel

from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.targets import REQUIRED

_FORM = "multipart/form-data"
NO_FORM = "failed to parse multipart form: {}"


def parse_transcription(content_type: str, body: bytes) -> str:
    """The model that a form asks for; what else is in it only has to be there.

    Raises:
        DialectError: It is no such form, or has no model or no file.
    """
    parts = _parts(content_type, body)
    model = parts.get("model", b"").decode(errors="replace")
    if not model:
        raise DialectError(400, REQUIRED)
    if "file" not in parts:
        raise DialectError(400, "file is required: http: no such file")
    if not parts["file"]:
        raise DialectError(400, "audio file is empty")
    return model


def cannot(model: ResolvedModel) -> DialectError:
    """That the model does not hear, which is so of every model here."""
    return DialectError(400, f"{model.full_name} does not support audio")


def _parts(content_type: str, body: bytes) -> Mapping[str, bytes]:
    """The first part of each name; a file is one that has a file's name."""
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    form = message_from_bytes(head + body, policy=policy.HTTP)
    if form.get_content_type() != _FORM:
        raise DialectError(400, NO_FORM.format("request Content-Type isn't multipart/form-data"))
    if form.get_boundary() is None:
        raise DialectError(400, NO_FORM.format("no multipart boundary param in Content-Type"))
    if not form.is_multipart() or form.defects:
        raise DialectError(400, NO_FORM.format("multipart: NextPart: EOF"))
    found: dict[str, bytes] = {}
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str) or (name == "file" and part.get_filename() is None):
            continue
        payload = part.get_payload(decode=True)
        found.setdefault(name, payload if isinstance(payload, bytes) else b"")
    return found
