"""Whether a conversation went where it is held."""

from __future__ import annotations

import pytest
from rkllama_policy.affinity import Affinity, affinity
from rkllama_protocol.messages import Link

from libs.rkllama_policy.tests.building import A, B, board, resident, ticket

CHAIN = (Link(hash="one", tokens=20), Link(hash="two", tokens=60))


def holds(worker_id: str, *hashes: str, model: str = A) -> object:
    return board(worker_id, models=(resident(model, holds=hashes),))


@pytest.mark.parametrize(
    ("boards", "result"),
    [
        ([], Affinity.MISS),
        ([board("w"), board("v")], Affinity.MISS),
        ([holds("w", "other"), holds("v")], Affinity.MISS),
        ([holds("w", "one", "two"), board("v")], Affinity.HIT),
        ([holds("w", "one"), holds("v", "one")], Affinity.HIT),
        ([holds("w", "one"), holds("v", "one", "two")], Affinity.FORCED),
        ([board("w"), holds("v", "one")], Affinity.FORCED),
        # What another model's context holds is of no use.
        ([board("w"), holds("v", "one", model=B)], Affinity.MISS),
        ([board("w", saved=("two",)), holds("v", "one")], Affinity.HIT),
        ([board("w"), board("v", saved=("one",))], Affinity.FORCED),
        # It has gone since.
        ([holds("v", "one")], Affinity.FORCED),
    ],
)
def test_where_a_conversation_went(boards: list[object], result: Affinity) -> None:
    assert affinity(ticket(chain=CHAIN), "w", boards) is result  # type: ignore[arg-type]
