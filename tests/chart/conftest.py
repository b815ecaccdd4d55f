"""Every way to install, rendered once."""

from __future__ import annotations

import pytest

from tests.chart.rendering import WAYS, Manifest, render
from tests.chart.tools import FOLDER, HELM

Installations = dict[str, list[Manifest]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs Helm, which `make test-chart` installs."""
    for item in items:
        if item.path.is_relative_to(FOLDER.parents[1] / "tests" / "chart"):
            item.add_marker(pytest.mark.chart)


@pytest.fixture(scope="session")
def installations() -> Installations:
    """The objects of every way to install."""
    assert HELM.exists(), "run `make test-chart`, which installs Helm"
    return {way: render(way) for way in WAYS}
