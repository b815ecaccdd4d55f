"""What the rendered pods are told is what the services understand, and no pod has more rights than it needs."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_settings import BaseSettings
from rkllama_gateway.settings import Settings as GatewaySettings
from rkllama_service.settings import SERVICE_PREFIXES, Shared
from rkllama_store.settings import HubSettings
from rkllama_store.settings import Settings as StoreSettings
from rkllama_worker.settings import Settings as WorkerSettings

from tests.chart.rendering import (
    WAYS,
    Manifest,
    component,
    environment,
    one,
    pods,
    render,
)

CLASSES: dict[str, list[type[BaseSettings]]] = {
    "gateway": [GatewaySettings],
    "model-store": [StoreSettings, HubSettings],
    "npu-worker": [WorkerSettings],
    "cpu-worker": [WorkerSettings],
}
PORTS = {"gateway": 8080, "model-store": 8082, "npu-worker": 8081, "cpu-worker": 8081}
DRAINING = {"gateway": "RKLLAMA_GATEWAY_DRAIN_TIMEOUT_S"}
PRESTOP_S = 5
SHUTDOWN_S = 5
"""What a service takes beyond its drain time: open answers, engines that end, the last beats."""

READ = """
import importlib, json, sys
from rkllama_service.settings import read
for name in sys.argv[1:]:
    module, _, kind = name.rpartition(".")
    settings, shared = read(getattr(importlib.import_module(module), kind))
    print(json.dumps([settings.model_dump(mode="json"), shared.model_dump(mode="json")]))
"""


def read(pod: Manifest) -> list[list[dict[str, Any]]]:
    """The settings and the shared ones that a service has of this pod's variables, read as it reads them."""
    return _read(component(pod), tuple(sorted(environment(pod).items())))


@functools.cache
def _read(part: str, variables: tuple[tuple[str, str], ...]) -> list[list[dict[str, Any]]]:
    names = [f"{each.__module__}.{each.__name__}" for each in CLASSES[part]]
    command = [sys.executable, "-c", READ, *names]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ours(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pods of our services."""
    return ((name, pod) for name, pod in pods(manifests) if component(pod) in CLASSES)


def known(part: str) -> set[str]:
    """The variables that a service reads."""
    return {
        str(each.model_config.get("env_prefix", "")) + field.upper()
        for each in [Shared, *CLASSES[part]]
        for field in each.model_fields
    }


def container_of(pod: Manifest) -> Manifest:
    """A pod's only container."""
    (container,) = pod["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.parametrize("way", WAYS)
def test_every_variable_is_a_field_of_the_service_that_gets_it(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    for name, pod in ours(installations[way]):
        assert set(environment(pod)) <= known(component(pod)), name


@pytest.mark.parametrize("way", ["default", "settings", "existing-secrets", "external-nats"])
def test_services_start_with_what_they_are_told(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    """Read by the services' own code, in a process that has these variables and no others."""
    for name, pod in ours(installations[way]):
        (settings, shared), *_ = read(pod)
        port = settings.get("http_port", settings.get("port"))

        assert port == PORTS[component(pod)], name
        assert shared["data"] == "/data"


def test_large_numbers_arrive_whole(installations: dict[str, list[Manifest]]) -> None:
    """YAML's numbers are floats in a template, which prints them with an exponent."""
    found = {component(pod): environment(pod) for _, pod in ours(installations["settings"])}

    assert found["gateway"]["RKLLAMA_GATEWAY_MAX_BODY_BYTES"] == "268435456"
    assert found["gateway"]["RKLLAMA_GATEWAY_DRAIN_TIMEOUT_S"] == "120.5"
    assert found["npu-worker"]["RKLLAMA_WORKER_MEMORY_LIMIT_BYTES"] == "12884901888"
    assert found["npu-worker"]["RKLLAMA_WORKER_KEEP_ALIVE_S"] == "-1"
    assert found["npu-worker"]["RKLLAMA_WORKER_RKLLM_CONSTRAINED"] == "true"


@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_puts_no_variables_of_its_own_in(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    """A Service named rkllama-gateway would become RKLLAMA_GATEWAY_PORT=tcp://..., which is a setting."""
    assert "RKLLAMA_GATEWAY_" in SERVICE_PREFIXES
    for name, pod in pods(installations[way]):
        assert pod["spec"]["enableServiceLinks"] is False, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name


@pytest.mark.parametrize("way", WAYS)
def test_only_what_opens_the_npu_is_privileged(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    for name, pod in pods(installations[way]):
        security = container_of(pod)["securityContext"]
        assert security["readOnlyRootFilesystem"] is True, name
        if security.get("privileged"):
            assert component(pod) == "npu-worker"
            continue
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        if component(pod) != "npu-worker":
            whole = pod["spec"]["securityContext"]
            assert (whole["runAsNonRoot"], whole["runAsUser"]) == (True, 10001), name
            assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_a_device_plugin_gives_the_npu_to_a_container_without_privileges() -> None:
    (pod,) = (p for _, p in pods(render("device-plugin")) if component(p) == "npu-worker")
    container = container_of(pod)
    paths = [v["hostPath"]["path"] for v in pod["spec"]["volumes"] if "hostPath" in v]

    assert container["resources"]["limits"] == {"memory": "14Gi", "rock-chips.com/rknpu": 1}
    assert container["resources"]["requests"]["rock-chips.com/rknpu"] == 1
    assert "privileged" not in container["securityContext"]
    # Of the machine it has the folder of models, and no device but the plugin's.
    assert paths == ["/var/lib/rkllama/cache"]


def test_workers_lock_the_machines_own_device_node() -> None:
    """A copy of the node in the container would be another inode: see `rkllama_board.lock`."""
    (pod,) = (p for _, p in pods(render()) if component(p) == "npu-worker")
    mounts = {m["mountPath"]: m["name"] for m in container_of(pod)["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}

    assert volumes[mounts["/dev"]]["hostPath"] == {"path": "/dev", "type": "Directory"}
    # Kubernetes makes a file there, which would appear in the machine's /dev.
    assert not container_of(pod)["terminationMessagePath"].startswith("/dev")


@pytest.mark.parametrize("way", WAYS)
def test_there_is_time_to_drain(way: str, installations: dict[str, list[Manifest]]) -> None:
    for name, pod in ours(installations[way]):
        (settings, _), *_ = read(pod)
        before = container_of(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        needed_s = settings.get("drain_timeout_s", 0) + before.get("seconds", 0) + SHUTDOWN_S

        assert pod["spec"]["terminationGracePeriodSeconds"] > needed_s, name


@pytest.mark.parametrize("way", WAYS)
def test_probes_and_services_point_at_ports_that_are_open(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    open_ports: dict[str, dict[str, int]] = {}
    for name, pod in pods(installations[way]):
        container = container_of(pod)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        open_ports[component(pod)] = ports
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports, name
    for manifest in installations[way]:
        if manifest["kind"] == "Service":
            part = manifest["spec"]["selector"]["app.kubernetes.io/component"]
            for port in manifest["spec"]["ports"]:
                assert open_ports[part][port["targetPort"]] == port["port"], part


@pytest.mark.parametrize("way", WAYS)
def test_probes_ask_what_the_services_answer(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    """Liveness must not fall with the broker, readiness must: `rkllama_service.http.probes`."""
    for name, pod in ours(installations[way]):
        container = container_of(pod)

        assert container["livenessProbe"]["httpGet"]["path"] == "/livez", name
        assert container["startupProbe"]["httpGet"]["path"] == "/livez", name
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz", name


def test_with_a_certificate_everybody_asks_gateways_by_https(
    installations: dict[str, list[Manifest]],
) -> None:
    manifests = installations["gateway-tls"]
    gateway = one(manifests, "Deployment", "-gateway")["spec"]["template"]
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    (endpoint,) = one(manifests, "ServiceMonitor", "-gateway")["spec"]["endpoints"]

    assert {container_of(gateway)[probe]["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}
    assert endpoint["scheme"] == "https"
    assert environment(one(manifests, "Pod", "-test"))["ASK_URL"].startswith("https://")
    (settings, _), *_ = read(gateway)
    assert settings["tls_cert_file"] == "/etc/rkllama/tls/tls.crt"


@pytest.mark.parametrize("way", WAYS)
def test_every_mount_has_its_volume_and_every_path_is_mounted(
    way: str, installations: dict[str, list[Manifest]]
) -> None:
    """The root file system is read-only: what a variable names as a path is a mount, or below one."""
    for name, pod in pods(installations[way]):
        container = container_of(pod)
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        claims = {"models"} if component(pod) == "model-store" else set()
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert volumes <= mounts <= volumes | claims, name
        places = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        for variable, text in environment(pod).items():
            if text.startswith("/"):
                assert any(text == p or text.startswith(f"{p}/") for p in places), variable


def test_boards_are_known_by_their_nodes() -> None:
    """Beats, metrics and what the board has learned keep their name over restarts."""
    (pod,) = (p for _, p in pods(render()) if component(p) == "npu-worker")
    variable = next(
        each for each in container_of(pod)["env"] if each["name"] == "RKLLAMA_WORKER_WORKER_ID"
    )
    (settings, _), *_ = read(pod)

    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    # A node may be named board-1.lan; a part of a subject may not.
    assert settings["worker_id"] == "board-1-lan"


def test_each_kind_of_board_has_a_daemonset_of_its_own() -> None:
    manifests = render("two-kinds-of-boards")
    found = {
        pod["spec"]["nodeSelector"]["example.com/soc"]: environment(pod)["RKLLAMA_PLATFORM"]
        for _, pod in pods(manifests)
        if component(pod) == "npu-worker"
    }

    assert found == {"rk3588": "rk3588", "rk3576": "rk3576"}
    store = one(manifests, "StatefulSet", "-model-store")["spec"]["template"]
    assert environment(store)["RKLLAMA_PLATFORM"] == "rk3588"


def test_a_store_for_several_kinds_of_boards_is_told_none() -> None:
    """Then it says which files there are, and a person chooses."""
    manifests = render(values={"npuWorker": {"socs": ["rk3588", "rk3576"]}})
    store = one(manifests, "StatefulSet", "-model-store")["spec"]["template"]

    assert "RKLLAMA_PLATFORM" not in environment(store)


def test_workers_fetch_from_the_address_that_the_store_tells() -> None:
    manifests = render()
    store = one(manifests, "StatefulSet", "-model-store")["spec"]["template"]
    service = one(manifests, "Service", "-model-store")
    (port,) = service["spec"]["ports"]

    assert environment(store)["RKLLAMA_STORE_ADVERTISE_URL"] == (
        f"http://{service['metadata']['name']}.ai.svc:{port['port']}"
    )


def test_images_are_named_by_registry_tag_and_digest() -> None:
    manifests = render("offline")
    images = {component(pod): container_of(pod)["image"] for _, pod in pods(manifests)}

    assert images["npu-worker"] == "registry.lan:5000/rkllama/rkllama-npu-worker:0.1.0"
    assert (
        images["gateway"]
        == f"registry.lan:5000/rkllama/rkllama-gateway@sha256:{'0123456789abcdef' * 4}"
    )
    assert images["nats"] == "docker.io/library/nats:2.15.1-alpine"
