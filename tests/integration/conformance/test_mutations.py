"""For every rule of the gateway that is broken on purpose, a row of the table fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conformance.mutations import (
    MUTATIONS,
    Mutation,
    StaleMutationError,
    apply,
    mutation,
)
from tests.integration.conformance.preloaded import Preloaded
from tests.integration.conformance.rows import ROWS
from tests.integration.conformance.runner import run
from tests.integration.conformance.system import Board, Gateways, board
from tests.integration.conformance.table import Row


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """The system around the gateways that are tried, with a gateway that is as it should be."""
    with board(tmp_path_factory.mktemp("mutations")) as running:
        yield running


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """What starts the others."""
    with Preloaded(tmp_path_factory.mktemp("preloaded") / "log") as running:
        yield running


def cited(broken: Mutation) -> list[Row]:
    """The rows that state the rule."""
    return [row for row in ROWS if row.on != "cpu" and row.id.startswith(broken.rows)]


@pytest.mark.mutations
@pytest.mark.parametrize("broken", MUTATIONS, ids=lambda broken: broken.rule)
def test_a_broken_rule_is_noticed(
    sound: Board, preloaded: Preloaded, broken: Mutation, tmp_path: Path
) -> None:
    """A row that fails anyway notices nothing."""
    rows = cited(broken)
    source = apply(broken, tmp_path)
    with (
        Gateways(sound, tmp_path / "broken", source=source, preloaded=preloaded) as gateways,
        Gateways(sound, tmp_path / "sound") as reference,
    ):
        noticed = (row for row in rows if run(row, gateways) and not run(row, reference))

        assert next(noticed, None) is not None, f"none of {len(rows)} rows states it"


def test_every_mutation_cites_rows_and_stands_alone() -> None:
    without = [
        (broken.rule, beginning)
        for broken in MUTATIONS
        for beginning in broken.rows
        if not any(row.id.startswith(beginning) for row in ROWS)
    ]
    rules = [broken.rule for broken in MUTATIONS]

    assert without == []
    assert len(MUTATIONS) >= 40
    assert len(set(rules)) == len(rules)


@pytest.mark.parametrize("old", ["no such text in this file", "DialectError"])
def test_a_mutation_that_cannot_be_applied_is_an_error(tmp_path: Path, old: str) -> None:
    stale = mutation("none", "dialects/ollama/jobs.py", old, "x", "1.1")
    with pytest.raises(StaleMutationError, match=r"say in mutations\.py"):
        apply(stale, tmp_path)
