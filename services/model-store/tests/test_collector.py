"""Which blobs go: a table."""

from __future__ import annotations

import pytest
from rkllama_protocol.names import Digest
from rkllama_store.collector import garbage, referenced

A, B, C = (Digest(letter * 64) for letter in "abc")


@pytest.mark.parametrize(
    ("ages", "needed", "dropped", "gone"),
    [
        pytest.param({A: 0.0}, set(), {A}, {A}, id="of the deleted model, at once"),
        pytest.param({A: 0.0, B: 0.0}, {B}, {A, B}, {A}, id="shared with another model"),
        pytest.param({A: 10.0}, set(), set(), set(), id="a fresh upload"),
        pytest.param({A: 3601.0}, set(), set(), {A}, id="an upload nobody came for"),
        pytest.param({A: 9e9, B: 9e9}, {A, B}, set(), set(), id="old, and needed"),
        pytest.param({C: 0.0}, set(), {A}, set(), id="already gone"),
        pytest.param({A: -5.0}, set(), set(), set(), id="written in the future"),
    ],
)
def test_garbage(
    ages: dict[Digest, float], needed: set[Digest], dropped: set[Digest], gone: set[Digest]
) -> None:
    assert gone == garbage(ages, needed=needed, dropped=dropped)


def test_everything_in_any_manifest_is_referenced() -> None:
    assert {A, B, C} == referenced([{A, B}, {B, C}])
    assert set() == referenced([])
