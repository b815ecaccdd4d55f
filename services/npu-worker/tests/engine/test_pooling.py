"""Rows of hidden states to one vector."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from rkllama_protocol.errors import InvalidModelError
from rkllama_worker.engine.pooling import POOLING_FILE, Pooling, read_pooling
from rkllama_worker.engine.runtime.base import PoolingKind

ROWS = np.array([[1, -2], [0.5, 3], [2, 1]], dtype=np.float32)


@pytest.fixture
def pooling_file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.mark.parametrize(
    ("kind", "vector"), [("last", [2, 1]), ("mean", [3.5 / 3, 2 / 3]), ("cls", [1, -2])]
)
def test_the_last_row_the_mean_of_all_or_the_first(kind: PoolingKind, vector: list[float]) -> None:
    packed = base64.b64decode(Pooling(kind=kind).pool(ROWS))

    assert packed == np.array(vector, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "last"),
        ({"pooling_mode_lasttoken": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 384}, "mean"),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
    ],
)
def test_the_models_own_file_says_which(
    pooling_file: Path, config: dict[str, object], kind: PoolingKind
) -> None:
    pooling_file.write_text(json.dumps(config))

    assert read_pooling({POOLING_FILE: str(pooling_file)}) == Pooling(kind=kind)


def test_without_a_file_the_weights_say_it() -> None:
    assert read_pooling({}) is None


@pytest.mark.parametrize(
    "content",
    [
        '{"pooling_mode_max_tokens": true}',
        '{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}',
        '{"pooling_mode_mean_tokens": false}',
        "[]",
        "no json",
    ],
)
def test_another_pooling_is_refused(pooling_file: Path, content: str) -> None:
    pooling_file.write_text(content)

    with pytest.raises(InvalidModelError, match=r"1_Pooling/config\.json"):
        read_pooling({POOLING_FILE: str(pooling_file)})
