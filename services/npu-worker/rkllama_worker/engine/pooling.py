"""Hidden states to one vector: last token, mean or first token, as the model's own files say.

1_Pooling/config.json   Sentence Transformers' word, where a model brings it
the weights             GGUF's `<arch>.pooling_type`
neither                 what suits the runtime: `Runtime.pooling`
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from rkllama_protocol.errors import InvalidModelError

from rkllama_worker.engine.runtime.base import PoolingKind

POOLING_FILE = "1_Pooling/config.json"
_KINDS: dict[str, PoolingKind] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_PREFIX = "pooling_mode_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How a model's rows become its vector."""

    kind: PoolingKind

    @property
    def last_only(self) -> bool:
        """Whether the other rows are of no use."""
        return self.kind == "last"

    def pool(self, rows: npt.NDArray[np.float32]) -> str:
        """Base64 of the little-endian float32 vector, as it is: not normalised.

        Args:
            rows: float32, shape (tokens, hidden size).
        """
        match self.kind:
            case "last":
                vector = rows[-1]
            case "cls":
                vector = rows[0]
            case "mean":
                vector = rows.mean(axis=0, dtype=np.float64)
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def read_pooling(files: Mapping[str, str]) -> Pooling | None:
    """The pooling in a model's files, name to path; None if there is no file that says it.

    Raises:
        InvalidModelError: The file is damaged, or asks for a pooling that is not known.
    """
    if POOLING_FILE not in files:
        return None
    try:
        config: Any = orjson.loads(Path(files[POOLING_FILE]).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidModelError(f"{POOLING_FILE} cannot be read: {error}") from error
    asked = _asked(config)
    # Several would be put one behind the other.
    if len(asked) == 1 and (kind := _KINDS.get(asked[0])) is not None:
        return Pooling(kind=kind)
    raise InvalidModelError(
        f"{POOLING_FILE} asks for another pooling than last token, mean and first token"
    )


def _asked(config: Any) -> list[str]:
    said = config.items() if isinstance(config, dict) else ()
    return [name for name, value in said if name.startswith(_PREFIX) and value is True]
