"""Prometheus and Grafana get in the cluster what they get from compose: the files of `monitoring/`."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.chart.rendering import Manifest, one, render
from tests.chart.tools import ROOT

MONITORING = ROOT / "monitoring"


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render("monitoring")


def test_rules_are_those_of_the_repository(manifests: list[Manifest]) -> None:
    expected = yaml.safe_load((MONITORING / "rules" / "rkllama.yaml").read_text())

    assert one(manifests, "PrometheusRule", "")["spec"] == expected


def test_the_dashboard_is_that_of_the_repository(manifests: list[Manifest]) -> None:
    found = one(manifests, "ConfigMap", "-dashboard")

    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["namespace"] == "monitoring"
    assert json.loads(found["data"]["rkllama.json"]) == json.loads(
        (MONITORING / "dashboards" / "rkllama.json").read_text()
    )


def test_jobs_have_the_names_that_the_rules_know(manifests: list[Manifest]) -> None:
    """Prometheus would name them after Services; compose's Prometheus names them as the rules do."""
    compose = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    expected = {each["job_name"] for each in compose["scrape_configs"]} - {"prometheus"}
    found = {
        m["spec"]["endpoints"][0]["relabelings"][0]["replacement"]
        for m in manifests
        if m["kind"] == "ServiceMonitor"
    }

    assert found == expected


def test_every_service_pod_is_found_by_one_monitor(manifests: list[Manifest]) -> None:
    """A monitor finds Services by labels, and pods through them, by the name of a port."""
    found: list[str] = []
    for monitor in (m for m in manifests if m["kind"] == "ServiceMonitor"):
        selector, (endpoint,) = monitor["spec"]["selector"], monitor["spec"]["endpoints"]
        (expression,) = selector["matchExpressions"]
        for service in (m for m in manifests if m["kind"] == "Service"):
            labels = service["metadata"]["labels"]
            part = labels["app.kubernetes.io/component"]
            if selector["matchLabels"].items() <= labels.items() and part in expression["values"]:
                assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}
                found.append(part)

    assert sorted(found) == ["cpu-worker", "gateway", "model-store", "npu-worker"]


@pytest.mark.parametrize(("mode", "takes"), [("all", True), ("admin", False), ("off", False)])
def test_prometheus_has_a_key_where_metrics_take_one(mode: str, *, takes: bool) -> None:
    """`/metrics` is among what is read: a key is asked for under `all` only (`dialects.access`)."""
    manifests = render("monitoring", {"auth": {"mode": mode}})
    (endpoint,) = one(manifests, "ServiceMonitor", "-gateway")["spec"]["endpoints"]

    assert ("authorization" in endpoint) is takes
    if takes:
        credentials = endpoint["authorization"]["credentials"]
        assert credentials["key"] in one(manifests, "Secret", "-keys")["stringData"]
        assert credentials["name"] == "r-rkllama-keys"


def test_scaling_asks_for_metrics_that_there_are() -> None:
    """By their names in the rules and the dashboard, which are compared with the code elsewhere."""
    known = (MONITORING / "rules" / "rkllama.yaml").read_text()
    known += (MONITORING / "dashboards" / "rkllama.json").read_text()
    scaled = [m for m in render("keda") if m["kind"] == "ScaledObject"]
    queries = [m["spec"]["triggers"][0]["metadata"]["query"] for m in scaled]
    names = {name for query in queries for name in re.findall(r"rkllama_\w+", query)}

    assert len(names) == 3
    assert {name for name in names if name not in known} == set()
    deployments = {m["metadata"]["name"] for m in render("keda") if m["kind"] == "Deployment"}
    assert {m["spec"]["scaleTargetRef"]["name"] for m in scaled} == deployments


def test_what_is_scaled_has_no_number_of_its_own() -> None:
    """Or every upgrade would set it back."""
    for way in ("keda", "autoscaling"):
        for manifest in render(way):
            if manifest["kind"] == "Deployment":
                assert "replicas" not in manifest["spec"], way
