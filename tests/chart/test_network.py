"""Who reaches whom: the rendered NetworkPolicies, judged as Kubernetes judges them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.chart.rendering import Manifest, component, pods, render

PARTS = ("gateway", "model-store", "nats", "npu-worker", "cpu-worker")
LABELS = {"app.kubernetes.io/name": "rkllama", "app.kubernetes.io/instance": "r"}
OPEN = {
    ("gateway", "nats", 4222),
    ("model-store", "nats", 4222),
    ("npu-worker", "nats", 4222),
    ("cpu-worker", "nats", 4222),
    ("gateway", "model-store", 8082),
    ("npu-worker", "model-store", 8082),
    ("cpu-worker", "model-store", 8082),
    ("prometheus", "gateway", 8080),
    ("prometheus", "model-store", 8082),
    ("prometheus", "npu-worker", 8081),
    ("prometheus", "cpu-worker", 8081),
    ("nats", "nats", 6222),
}
"""Every way between these parts that has to be; anybody may come to the gateway besides."""


def place(name: str) -> dict[str, Any]:
    """Labels of a pod and of its namespace, or an address."""
    if name in PARTS or name == "test":
        own = LABELS | {"app.kubernetes.io/component": name}
        return {"labels": own, "namespace": "ai", "ip": "10.42.0.9"}
    namespace, labels, ip = {
        "prometheus": ("monitoring", {"app": "prometheus"}, "10.42.1.1"),
        "neighbour": ("ai", {"app": "web"}, "10.42.1.2"),
        "stranger": ("games", {"app": "doom"}, "10.42.1.3"),
        "dns": ("kube-system", {"k8s-app": "kube-dns"}, "10.42.1.4"),
        "hub": ("", {}, "18.160.0.1"),
        "router": ("", {}, "192.168.1.1"),
        "metadata": ("", {}, "169.254.169.254"),
    }[name]
    return {"labels": labels, "namespace": namespace, "ip": ip}


def selected(selector: Manifest, labels: dict[str, str]) -> bool:
    """By labels only, which is all that the chart says."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: Manifest, who: dict[str, Any]) -> bool:
    if "ipBlock" in peer:
        address = ipaddress.ip_address(who["ip"])
        inside = [ipaddress.ip_network(n) for n in peer["ipBlock"].get("except", [])]
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(
            address in network for network in inside
        )
    if not who["namespace"]:
        return False
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": who["namespace"]}
        if not selected(peer["namespaceSelector"], name):
            return False
    elif who["namespace"] != "ai":
        return False
    return selected(peer.get("podSelector", {}), who["labels"])


def lets(rules: list[Manifest], direction: str, who: dict[str, Any], port: int) -> bool:
    return any(
        (direction not in rule or any(is_peer(peer, who) for peer in rule[direction]))
        and any(p["port"] == port for p in rule["ports"])
        for rule in rules
    )


def reaches(manifests: list[Manifest], source: str, target: str, port: int) -> bool:
    """Whether a connection is let out there and let in here."""
    policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]
    a, b = place(source), place(target)

    def of(who: dict[str, Any]) -> list[Manifest]:
        if who["namespace"] != "ai":
            return []
        return [p for p in policies if selected(p["podSelector"], who["labels"])]

    out = not of(a) or any(lets(p.get("egress", []), "to", b, port) for p in of(a))
    back = not of(b) or any(lets(p.get("ingress", []), "from", a, port) for p in of(b))
    return out and back


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    """Every part, with three servers."""
    return render(values={"cpuWorker": {"enabled": True}, "nats": {"replicas": 3}})


def test_only_who_needs_it_gets_through(everything: list[Manifest]) -> None:
    others = ("prometheus", "neighbour", "stranger", "test", "router")
    ports = (4222, 6222, 8222, 8080, 8081, 8082, 11434)
    found = {
        (source, target, port)
        for source in (*PARTS, *others)
        for target in PARTS
        for port in ports
        if reaches(everything, source, target, port)
    }
    anybody = {(s, "gateway", p) for s in others for p in (8080, 11434)}

    assert found == OPEN | anybody


@pytest.mark.parametrize("part", PARTS)
def test_names_are_resolved_by_who_asks_for_names(everything: list[Manifest], part: str) -> None:
    assert reaches(everything, part, "dns", 53)


def test_one_server_of_the_broker_asks_nobody_anything() -> None:
    assert not reaches(render(), "nats", "dns", 53)


@pytest.mark.parametrize(
    ("part", "target", "port", "let"),
    [
        ("model-store", "hub", 443, True),
        ("model-store", "hub", 80, False),
        ("model-store", "router", 443, False),
        ("model-store", "metadata", 443, False),
        ("model-store", "stranger", 443, False),
        ("gateway", "hub", 443, False),
        # A worker runs files of others in a closed library.
        ("npu-worker", "hub", 443, False),
        ("cpu-worker", "hub", 443, False),
        ("nats", "hub", 443, False),
    ],
)
def test_only_the_store_reaches_the_outside(
    everything: list[Manifest], part: str, target: str, port: int, let: bool
) -> None:
    assert reaches(everything, part, target, port) is let


def test_an_offline_store_reaches_nothing_outside() -> None:
    assert not reaches(render("offline"), "model-store", "hub", 443)


def test_gateways_can_be_kept_for_some_and_are_still_measured() -> None:
    manifests = render("no-keys")

    assert reaches(manifests, "router", "gateway", 11434)
    assert reaches(manifests, "test", "gateway", 8080)
    assert not reaches(manifests, "neighbour", "gateway", 8080)
    assert reaches(manifests, "prometheus", "gateway", 8080)


def test_every_pod_of_a_service_is_under_a_policy(
    installations: dict[str, list[Manifest]],
) -> None:
    for way, manifests in installations.items():
        governed = {
            m["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for m in manifests
            if m["kind"] == "NetworkPolicy"
        }
        there = {component(pod) for _, pod in pods(manifests)} - {"test"}

        assert governed == (set() if way == "settings" else there), way
