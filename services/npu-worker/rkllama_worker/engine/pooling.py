"""Hidden states to one vector: last token or mean, as the model's own files say.

Sentence Transformers keeps it in `1_Pooling/config.json` (`pooling_mode_lasttoken`,
`pooling_mode_mean_tokens`); a model that brings no such file gets the last token, as the vendor's
own example of Qwen3-Embedding does (rknn-llm#504).
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from rkllama_protocol.errors import InvalidModelError

POOLING_FILE = "1_Pooling/config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How a model's rows become its vector."""

    last_only: bool

    def pool(self, rows: memoryview[float]) -> str:
        """Base64 of the little-endian float32 vector, as it is: not normalised.

        Args:
            rows: float32, shape (tokens, hidden size).
        """
        count, width = rows.shape or (0, 0)
        flat = rows.cast("B").cast("f")
        if self.last_only:
            vector = flat[-width:].tobytes()
        else:
            # A column at a time: 0.1 s for 2048 tokens of 1024 values, whose prefill takes seconds.
            vector = array("f", (sum(flat[j::width]) / count for j in range(width))).tobytes()
        return base64.b64encode(vector).decode()


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
    match config:
        case {"pooling_mode_lasttoken": True}:
            return Pooling(last_only=True)
        case {"pooling_mode_mean_tokens": True}:
            return Pooling(last_only=False)
    raise InvalidModelError(f"{POOLING_FILE} asks for a pooling other than last token and mean")
