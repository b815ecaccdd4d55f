"""Rows of hidden states to one vector."""

from __future__ import annotations

import base64
import json
from array import array
from pathlib import Path

import pytest
from rkllama_protocol.errors import InvalidModelError
from rkllama_worker.engine.pooling import POOLING_FILE, Pooling, read_pooling

ROWS = memoryview(array("f", [1, -2, 0.5, 3, 2, 1]).tobytes()).cast("f", (3, 2))


@pytest.fixture
def pooling_file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.mark.parametrize(("last_only", "vector"), [(True, [2.0, 1.0]), (False, [3.5 / 3, 2 / 3])])
def test_the_last_row_or_the_mean_of_all(last_only: bool, vector: list[float]) -> None:
    packed = base64.b64decode(Pooling(last_only=last_only).pool(ROWS))

    assert packed == array("f", vector).tobytes()


@pytest.mark.parametrize(
    ("config", "last_only"),
    [
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, True),
        ({"pooling_mode_lasttoken": False, "pooling_mode_mean_tokens": True}, False),
        ({"pooling_mode_mean_tokens": True}, False),
    ],
)
def test_the_models_own_file_says_which(
    pooling_file: Path, config: dict[str, bool], last_only: bool
) -> None:
    pooling_file.write_text(json.dumps(config))

    assert read_pooling({POOLING_FILE: str(pooling_file)}).last_only is last_only


def test_without_a_file_it_is_the_last_token() -> None:
    assert read_pooling({}).last_only


@pytest.mark.parametrize("content", ['{"pooling_mode_cls_token": true}', "[]", "no json"])
def test_another_pooling_is_refused(pooling_file: Path, content: str) -> None:
    pooling_file.write_text(content)

    with pytest.raises(InvalidModelError, match=r"1_Pooling/config\.json"):
        read_pooling({POOLING_FILE: str(pooling_file)})
