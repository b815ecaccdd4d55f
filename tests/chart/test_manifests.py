"""What Helm makes of the chart is what Kubernetes and its operators take."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.chart.custom_resources import SCHEMAS
from tests.chart.rendering import CHART, WAYS, Manifest, digest, name_of, template, values_of
from tests.chart.tools import HELM, ROOT, run

OLDEST = "1.30"
NEWEST = "1.37"


def complaint_of(text: str) -> str:
    """What Helm says besides that rules and dashboard are links to `monitoring/`."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if "found symbolic link in path" not in line)


@pytest.mark.parametrize("way", WAYS)
def test_helm_has_nothing_to_say_against_it(way: str) -> None:
    code, said, complaint = run(HELM, "lint", "--strict", "--quiet", CHART, "-f", values_of(way))

    assert (code, said, complaint_of(complaint)) == (0, "", "")


def test_kubernetes_takes_every_object(
    installations: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    """Strictly, so that a misspelt field is an error; each object that is different once."""
    every = {digest(m): m for manifests in installations.values() for m in manifests}
    ours = [m for m in every.values() if m["apiVersion"] not in SCHEMAS]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(ours))
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet"]

    for version in (OLDEST, NEWEST):
        code, said, complaint = run(*command, "-k", version, file, packages=True)

        assert (code, said, complaint) == (0, "", ""), version
    assert {"DaemonSet", "Ingress", "HorizontalPodAutoscaler"} < {m["kind"] for m in ours}


def test_operators_take_their_objects(installations: dict[str, list[Manifest]]) -> None:
    """Kubernetes' schemas know nothing of these kinds."""
    seen: Counter[str] = Counter()
    for manifests in installations.values():
        for manifest in manifests:
            if manifest["apiVersion"] in SCHEMAS:
                schema = SCHEMAS[manifest["apiVersion"]][manifest["kind"]]
                jsonschema.Draft202012Validator(schema).validate(manifest)
                seen[manifest["kind"]] += 1

    assert seen == {"ScaledObject": 2, "ServiceMonitor": 6, "PrometheusRule": 1}


def test_objects_have_names_of_their_own(installations: dict[str, list[Manifest]]) -> None:
    for way, manifests in installations.items():
        names = Counter(map(name_of, manifests))

        assert names.most_common(1)[0][1] == 1, way


# A Service's name is a part of a host name; a StatefulSet's, and 11 characters more, the value of a label.
@pytest.mark.parametrize(("kind", "longest"), [("Service", 63), ("StatefulSet", 52)])
def test_the_longest_names_still_fit(kind: str, longest: int) -> None:
    """Helm takes releases of 53 characters."""
    code, text, complaint = run(HELM, "template", "x" * 53, CHART, "-f", values_of("cpu-only"))
    assert code == 0, complaint
    names = [m["metadata"]["name"] for m in yaml.safe_load_all(text) if m["kind"] == kind]

    assert names
    assert max(map(len, names)) <= longest


def test_there_is_one_version() -> None:
    """Of wheel, images and chart."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


@pytest.mark.parametrize("version", ["1.29.9", "1.20.0"])
def test_a_cluster_that_is_too_old_is_refused(version: str) -> None:
    code, _, complaint = template("--kube-version", version)

    assert code != 0
    assert "incompatible with Kubernetes" in complaint


def test_notes_say_what_to_do_next() -> None:
    """They are only shown by an installation, and by its rehearsal."""
    rehearsal = (HELM, "install", "r", CHART, "--namespace", "ai", "--dry-run=client")
    code, text, complaint = run(*rehearsal)
    assert code == 0, complaint
    notes = text.partition("NOTES:")[2]

    assert "kubectl label node" in notes
    assert "kubectl -n ai get secret r-rkllama-keys" in notes


def test_every_file_of_the_chart_is_read_by_a_template() -> None:
    read = set()
    for path in CHART.glob("templates/**/*"):
        if path.is_file():
            read |= set(re.findall(r'Files\.Get "([^"]+)"', path.read_text()))

    assert read == {str(path.relative_to(CHART)) for path in CHART.glob("files/*")}
