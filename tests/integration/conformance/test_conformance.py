"""Every row of the table, against the real gateway over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conformance.rows import ROWS
from tests.integration.conformance.runner import run
from tests.integration.conformance.system import Gateways, board
from tests.integration.conformance.table import Row


@pytest.fixture(scope="module")
def gateways(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """Everything that rows can be run against, once for all of them."""
    folder = tmp_path_factory.mktemp("conformance")
    with (
        board(folder / "board") as sound,
        Gateways(sound, folder / "gateways", bundled=models) as all_of_them,
    ):
        yield all_of_them


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_contract(gateways: Gateways, row: Row) -> None:
    complaint = run(row, gateways)

    assert not complaint, f"contract {row.section}: {complaint}"
