"""Hidden states to one vector: last token or mean, as the model's own files say.

Sentence Transformers keeps it in `1_Pooling/config.json` (`pooling_mode_lasttoken`,
`pooling_mode_mean_tokens`); a model that brings no such file gets the last token, as the vendor's
own example of Qwen3-Embedding does (rknn-llm#504).
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from rkllama_protocol.errors import InvalidModelError

POOLING_FILE = "1_Pooling/config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How a model's rows become its vector."""

    last_only: bool

    def pool(self, rows: Sequence[Sequence[float]]) -> str:
        """Base64 of the little-endian float32 vector, as it is: not normalised."""
        if self.last_only:
            vector = list(rows[-1])
        else:
            vector = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        packed = array("f", vector)
        return base64.b64encode(packed.tobytes()).decode()


def read_pooling(files: Mapping[str, str]) -> Pooling:
    """The pooling in a model's files, name to path.

    Raises:
        InvalidModelError: The file is damaged, or asks for a pooling that is not known.
    """
    if POOLING_FILE not in files:
        return Pooling(last_only=True)
    try:
        config = orjson.loads(Path(files[POOLING_FILE]).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidModelError(f"{POOLING_FILE} cannot be read: {error}") from error
    if config.get("pooling_mode_lasttoken"):
        return Pooling(last_only=True)
    if config.get("pooling_mode_mean_tokens"):
        return Pooling(last_only=False)
    raise InvalidModelError(f"{POOLING_FILE} asks for a pooling other than last token and mean")
