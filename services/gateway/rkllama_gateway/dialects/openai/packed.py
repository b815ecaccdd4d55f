"""Bodies of `/v1/responses` that come packed (contract 3.5)."""

from __future__ import annotations

import io

import zstandard

from rkllama_gateway.dialects.errors import DialectError

MOST_BYTES = 20 * 2**20
"""Of an unpacked body."""


def unpacked(body: bytes, encoding: str) -> bytes:
    """What `body` is without the encoding that its header `Content-Encoding` names.

    Raises:
        DialectError: It is no such thing, or too large, or the encoding is another one than zstd.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "zstd":
            return _unzstd(body)
        case other:
            raise DialectError(415, f"unsupported Content-Encoding: {other}")


def _unzstd(body: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)) as reader:
            plain = reader.read(MOST_BYTES + 1)
    except zstandard.ZstdError as error:
        raise DialectError(400, "invalid zstd body") from error
    if len(plain) > MOST_BYTES:
        raise DialectError(413, "request body too large")
    return plain
