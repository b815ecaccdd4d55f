"""What the pages tell people to type fits the chart."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.chart.rendering import CHART, WAYS, Manifest, name_of, render, template
from tests.chart.tools import ROOT

PAGES = {"README.md": CHART / "README.md", "kubernetes.md": ROOT / "docs" / "kubernetes.md"}
NAMED = re.compile(
    r"\b(secret|service|daemonset|statefulset|deployment)[ /](rkllama(?:-[a-z-]+)?)\b"
)


@pytest.fixture(scope="module")
def everything() -> set[str]:
    """The objects of a release named `rkllama`, as the pages have it."""
    return {
        name_of(m).lower().replace("/r-rkllama", "/rkllama")
        for m in render(values={"cpuWorker": {"enabled": True}})
    }


@pytest.mark.parametrize("page", PAGES)
def test_values_that_are_set_on_a_page_are_values(page: str) -> None:
    found = re.findall(r"--set ([^\s`)]+)", PAGES[page].read_text())
    arguments = [word for text in found for word in ("--set", text)]
    code, _, complaint = template(*arguments)

    assert found
    assert code == 0, complaint


@pytest.mark.parametrize("page", PAGES)
def test_values_that_are_named_on_a_page_are_values(page: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    groups = "|".join(key for key, value in values.items() if isinstance(value, dict))
    for path in re.findall(rf"`((?:{groups})(?:\.\w+)+)(?:: \w+)?`", PAGES[page].read_text()):
        found: Manifest | object = values
        for key in path.split("."):
            assert isinstance(found, dict), path
            assert key in found, path
            found = found[key]


def test_objects_that_are_named_in_commands_are_there(everything: set[str]) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    named = {f"{kind}/{name}" for kind, name in NAMED.findall(text)}

    assert len(named) >= 3
    assert named <= everything


def test_the_readme_has_every_way_to_install() -> None:
    install = PAGES["README.md"].read_text().partition("## The NPU")[0]
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", install, re.M)
    listed = sorted(way for row in rows for way in re.findall(r"`([a-z-]+)`", row))

    assert listed == WAYS


def test_the_label_of_the_pages_is_the_charts(everything: set[str]) -> None:
    label = yaml.safe_load((CHART / "values.yaml").read_text())["npuWorker"]["nodeLabel"]
    for path in PAGES.values():
        for found in re.findall(
            r"kubectl label node \S+ ([^\s=]+?)[=-](?:\s|rk)", path.read_text()
        ):
            assert found == label
    assert "daemonset/rkllama-npu-worker-rk3588" in everything
