"""The images are made of what constraints.txt says, and every one of them is built and released."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted(ROOT.glob("services/*/Dockerfile"))
IDS = [path.parent.name for path in DOCKERFILES]
EXTRAS = {
    "gateway": ("gateway", "cli"),
    "model-store": ("store", "cli"),
    "npu-worker": ("worker", "cpu", "cli"),
}
LOCKS = [ROOT / "services" / name / "requirements.txt" for name in EXTRAS]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.M)
    return {canonical(name): version for name, version in found}


@pytest.mark.parametrize("path", [*LOCKS, ROOT / "services" / "requirements-build.txt"])
def test_images_install_the_versions_of_the_constraints_by_hash(path: Path) -> None:
    """After a change of constraints.txt: `make lock`."""
    constraints = pins(ROOT / "constraints.txt")
    locked = pins(path)

    assert locked
    assert {name: constraints.get(name) for name in locked} == locked
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", path.read_text(), re.M)) == len(
        locked
    )


@pytest.mark.parametrize("name", EXTRAS)
def test_images_have_what_their_extras_ask_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in EXTRAS[name]:
        asked += project["optional-dependencies"][extra]
    names = {canonical(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in asked}

    assert names <= set(pins(ROOT / "services" / name / "requirements.txt"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=IDS)
def test_every_image_has_a_base_to_pin_labels_and_a_way_to_ask_for_its_health(path: Path) -> None:
    text = path.read_text()

    # A frontend of its own would come from a registry at every build.
    assert "syntax=" not in text
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= {"${BASE}", "dependencies"}
    assert "\nHEALTHCHECK " in text
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in text
    assert ("\nUSER 10001:10001\n" in text) is (path.parent.name != "npu-worker")


def test_every_image_is_built() -> None:
    bake = (ROOT / "docker-bake.hcl").read_text()

    assert set(re.findall(r'dockerfile = "(.*?)"', bake)) == {
        str(path.relative_to(ROOT)) for path in DOCKERFILES
    }


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")))
def test_actions_are_named_by_their_commit(path: Path) -> None:
    for action in re.findall(r"uses: (\S+)", path.read_text()):
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
