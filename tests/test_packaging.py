"""What the wheel ships is what is on the disk."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_on_the_disk_is_shipped() -> None:
    """Hatchling says nothing about a mistyped path, and ships nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    found = {
        str(init.parent.relative_to(ROOT))
        for pattern in ("libs/*/*/__init__.py", "services/*/*/__init__.py", "cli/*/__init__.py")
        for init in ROOT.glob(pattern)
        if init.parent.name != "tests"
    }

    assert shipped == found


def test_the_type_checker_sees_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = {
        path.rsplit("/", 1)[1]
        for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }

    assert set(project["tool"]["mypy"]["packages"]) == shipped | {"bench"}
    assert set(project["tool"]["importlinter"]["root_packages"]) == shipped
