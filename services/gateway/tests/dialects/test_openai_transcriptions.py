"""Forms with speech: read, and refused in Ollama's words (contract 3.6)."""

from __future__ import annotations

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.openai.transcriptions import parse_transcription

FORM = "multipart/form-data; boundary=X"
WAV = bytes(range(256)) * 3 + b"\r\n--\r\n\n\r"


def form(*parts: tuple[str, bytes]) -> bytes:
    """Parts by what stands behind `form-data; `."""
    lines = [
        b"--X\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(lines) + b"--X--\r\n"


MODEL = ('name="model"', b"plain")
FILE = ('name="file"; filename="a.wav"', WAV)


@pytest.mark.parametrize(
    "parts",
    [
        (MODEL, FILE),
        (FILE, ('name="language"', b"de"), MODEL),
        (MODEL, ('name="model"', b"other"), FILE, ("", b"nameless")),
    ],
)
def test_a_form_asks_for_a_model(parts: tuple[tuple[str, bytes], ...]) -> None:
    assert parse_transcription(FORM, form(*parts)) == "plain"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", b"", "request Content-Type isn't multipart/form-data"),
        ("application/json", b"{}", "request Content-Type isn't multipart/form-data"),
        ("multipart/form-data", b"x", "no multipart boundary param in Content-Type"),
        (FORM, b"", "multipart: NextPart: EOF"),
        (FORM, b"x", "multipart: NextPart: EOF"),
        (FORM, form(MODEL, FILE)[:-9], "multipart: NextPart: EOF"),
        (FORM, form(FILE), "model is required"),
        (FORM, form(('name="model"', b""), FILE), "model is required"),
        (FORM, form(MODEL), "file is required: http: no such file"),
        (FORM, form(MODEL, ('name="file"', b"x")), "file is required: http: no such file"),
        (FORM, form(MODEL, ('name="file"; filename="a"', b"")), "audio file is empty"),
    ],
)
def test_what_is_no_such_form_is_refused(content_type: str, body: bytes, text: str) -> None:
    with pytest.raises(DialectError) as caught:
        parse_transcription(content_type, body)

    assert caught.value.status == 400
    assert caught.value.message.removeprefix("failed to parse multipart form: ") == text
