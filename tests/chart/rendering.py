"""The chart as Helm renders it, as plain objects."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.chart.tools import HELM, ROOT, run

CHART = ROOT / "helm" / "rkllama"
WAYS = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))
"""Each way to install that `ci/` has."""
RELEASE = "r"
NAMESPACE = "ai"
KUBERNETES = "1.33"

Manifest = dict[str, Any]


def values_of(way: str) -> Path:
    """The file of values of one way to install."""
    return CHART / "ci" / f"{way}-values.yaml"


def template(*arguments: str | Path, values: Manifest | None = None) -> tuple[int, str, str]:
    """`helm template`; `values` come last."""
    given: list[str | Path] = []
    if values is not None:
        given = ["-f", "-"]
    where = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    return run(
        HELM, "template", RELEASE, CHART, *where, *arguments, *given, text=json.dumps(values)
    )


def render(way: str = "default", values: Manifest | None = None) -> list[Manifest]:
    """Every object of a way to install, changed by `values`."""
    code, text, complaint = template("-f", values_of(way), values=values)
    assert code == 0, complaint
    return [found for found in yaml.safe_load_all(text) if found is not None]


def name_of(manifest: Manifest) -> str:
    """`Kind/name`, for messages."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind, whose name is the release's and `name`."""
    (found,) = (m for m in manifests if name_of(m) == f"{kind}/r-rkllama{name}")
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and `{metadata, spec}` of every pod that comes of these objects."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield name_of(manifest), manifest
        elif "template" in manifest.get("spec", {}):
            yield name_of(manifest), manifest["spec"]["template"]


def component(pod: Manifest) -> str:
    """What a pod is a part of the chart as."""
    return str(pod["metadata"]["labels"]["app.kubernetes.io/component"])


def environment(pod: Manifest) -> dict[str, str]:
    """The variables of a pod's container; what the cluster would fill in is filled in with something like it."""
    (container,) = pod["spec"]["containers"]
    return {each["name"]: _value(each) for each in container.get("env", [])}


def _value(variable: Manifest) -> str:
    if "value" in variable:
        return str(variable["value"])
    match variable["valueFrom"]:
        case {"fieldRef": {"fieldPath": "spec.nodeName"}}:
            return "board-1.lan"
        case {"fieldRef": {"fieldPath": "metadata.name"}}:
            return "r-rkllama-cpu-worker-7d9f8c6b5-x2x4z"
        case {"secretKeyRef": _}:
            return "secret"
        case other:
            raise AssertionError(f"{variable['name']} comes from {other}")


def content(secret: Manifest) -> dict[str, str]:
    """What a Secret holds, as text."""
    encoded = secret.get("data", {}).items()
    plain = {key: base64.b64decode(text).decode() for key, text in encoded}
    return plain | secret.get("stringData", {})


def secret(manifests: list[Manifest], name: str) -> dict[str, str]:
    """What the Secret of that name holds; see `one`."""
    return content(one(manifests, "Secret", name))


def digest(manifest: Manifest) -> str:
    """Equal for equal objects."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
