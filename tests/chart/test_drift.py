"""Chart, compose and Settings say the same: what one of them can be told, so can the others.

Where they differ they have to, and the reason stands beside it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rkllama_service.ollama_variables import STAND_INS
from rkllama_service.settings import Shared

from tests.chart.generated import DEFINITIONS
from tests.chart.rendering import CHART, WAYS, Manifest, component, environment, pods, render
from tests.chart.test_pods import CLASSES, container_of, known
from tests.chart.tools import ROOT

SERVICES = ("gateway", "model-store", "npu-worker", "cpu-worker")
SETTINGS = {
    "gateway": "gatewaySettings",
    "model-store": "storeSettings",
    "npu-worker": "npuWorkerSettings",
    "cpu-worker": "cpuWorkerSettings",
}
IMAGES = {name: name for name in ("nats", "gateway", "model-store", "npu-worker")} | {
    "cpu-worker": "npu-worker"
}
"""Folder of the Dockerfile, by service."""

ELSEWHERE = {
    # Of the command line, which is no service.
    "RKLLAMA_API_KEY",
    # Set by the images.
    "RKLLAMA_DATA",
    # There is one store.
    "RKLLAMA_STORE_STORE_ID",
}
ONLY_CHART = {
    "RKLLAMA_HOST": "set by the image",
    "RKLLAMA_KEYS_FILE": "keys are a Secret; compose keeps them in the data folder",
    "RKLLAMA_GATEWAY_SUBJECT_PREFIX": "a cluster may share a broker",
    "RKLLAMA_STORE_SUBJECT_PREFIX": "the same",
    "RKLLAMA_WORKER_SUBJECT_PREFIX": "the same",
    "RKLLAMA_STORE_HTTP_HOST": "set by the image",
    "RKLLAMA_WORKER_HTTP_HOST": "set by the image",
    "RKLLAMA_WORKER_CACHE_DIR": "set by the image",
    "RKLLAMA_NATS_TLS_CA_FILE": "on one machine nobody is between",
}
ONLY_COMPOSE = {
    "RKLLAMA_GATEWAY_PUBLISHED_HOST": "a Service is no published port; the chart says `auth.mode`",
    "cpu-worker RKLLAMA_PLATFORM": "a CPU has no chip of that kind",
    "RKLLAMA_RKLLM_LIBRARY": "the chart mounts a folder on /rkllm, which goes first",
    **dict.fromkeys(STAND_INS, "the chart has our names for them"),
}
OTHER_VALUES = {
    "RKLLAMA_NATS_URL": "names of the network",
    "RKLLAMA_NATS_CREDENTIALS_FILE": "where the file is mounted",
    "RKLLAMA_STORE_ADVERTISE_URL": "names of the network",
    "RKLLAMA_WORKER_WORKER_ID": "the node's or the pod's name",
    "RKLLAMA_AUTH": "compose decides by the address that it publishes",
    "RKLLAMA_PLATFORM": "the chart knows it from the label",
}


@pytest.fixture(scope="module")
def compose() -> Manifest:
    """Its services, with every `${NAME:-default}` at its default."""
    text = (ROOT / "compose.yaml").read_text()
    text = re.sub(r"\$\{\w+(?::?-([^}]*))?\}", lambda found: found[1] or "", text)
    found = yaml.safe_load(text)["services"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def chart() -> dict[str, Manifest]:
    """A pod of each service."""
    manifests = render(values={"cpuWorker": {"enabled": True}})
    return {component(pod): pod for _, pod in pods(manifests)}


def told_by_compose(compose: Manifest, service: str) -> dict[str, str | None]:
    """Its variables; None: whatever `.env` says."""
    found = compose[service]["environment"]
    return {name: None if value in (None, "") else str(value) for name, value in found.items()}


def tellable(service: str) -> set[str]:
    """The variables that somebody who installs the chart can set."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    prefix = str(DEFINITIONS[SETTINGS[service]][0].model_config["env_prefix"])
    fields = schema["definitions"][SETTINGS[service]]["properties"]
    return shown()[service] | {prefix + field.upper() for field in fields}


@functools.cache
def shown() -> dict[str, set[str]]:
    """The variables that pods have in any way to install, by component."""
    found: dict[str, set[str]] = {}
    for way in WAYS:
        for _, pod in pods(render(way, {"cpuWorker": {"enabled": True}, "debug": True})):
            found.setdefault(component(pod), set()).update(environment(pod))
    return found


def seconds(text: str) -> int:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    return int(found[1] or 0) * 60 + int(found[2] or 0)


def bytes_of(text: str) -> int:
    """Docker's `512m` and Kubernetes' `512Mi` are the same."""
    found = re.fullmatch(r"(\d+)([kmg])i?", str(text).lower())
    assert found, text
    return int(found[1]) * 1024 ** ("kmg".index(found[2]) + 1)


def dockerfile(service: str) -> str:
    return (ROOT / "services" / IMAGES[service] / "Dockerfile").read_text()


def literals(variables: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in variables.items() if value is not None)


def allowed(exceptions: dict[str, str], service: str) -> set[str]:
    """Names of variables; with a service before it, for that one only."""
    words = [name.rpartition(" ") for name in exceptions]
    return {name for only, _, name in words if only in {"", service}}


@pytest.mark.parametrize("service", SERVICES)
def test_what_one_can_be_told_so_can_the_other(compose: Manifest, service: str) -> None:
    by_chart, by_compose = tellable(service), set(told_by_compose(compose, service))

    assert by_chart - by_compose - set(ONLY_CHART) <= ELSEWHERE
    assert by_compose - by_chart - allowed(ONLY_COMPOSE, service) == set()


@pytest.mark.parametrize("service", ["gateway", "model-store", "npu-worker"])
def test_every_field_can_be_set(service: str) -> None:
    """Of the service's own; compose is held against the classes in `tests/test_compose_file.py`."""
    shared = {f"RKLLAMA_{field.upper()}" for field in Shared.model_fields}

    assert known(service) - shared - tellable(service) <= ELSEWHERE | set(ONLY_COMPOSE)


@pytest.mark.parametrize("service", SERVICES)
def test_values_that_both_set_are_equal(
    compose: Manifest, chart: dict[str, Manifest], service: str
) -> None:
    by_chart = environment(chart[service])
    different = {
        name
        for name, value in literals(told_by_compose(compose, service))
        if name in by_chart and by_chart[name] != value
    }

    assert different - set(OTHER_VALUES) == set()


def test_no_difference_is_allowed_that_is_none(
    compose: Manifest, chart: dict[str, Manifest]
) -> None:
    """A reason that is not needed any more would hide the next difference."""
    by_chart = {name for service in SERVICES for name in tellable(service)}
    by_compose = {name for service in SERVICES for name in told_by_compose(compose, service)}
    equal = {
        name
        for service in SERVICES
        for name, value in literals(told_by_compose(compose, service))
        if environment(chart[service]).get(name) == value
    }

    assert set(ONLY_CHART) & by_compose == set()
    assert set(ONLY_COMPOSE) & by_chart == set()
    assert set(OTHER_VALUES) & equal == set()
    assert set(OTHER_VALUES) <= by_chart & by_compose


@pytest.mark.parametrize("service", ["nats", *SERVICES])
def test_images_ports_and_users_are_those_of_the_dockerfiles(
    compose: Manifest, chart: dict[str, Manifest], service: str
) -> None:
    name = compose[service]["image"].rpartition("/")[2].partition(":")[0]
    container = container_of(chart[service])
    told = container["image"].rpartition("/")[2].partition(":")[0]
    exposed = re.findall(r"^EXPOSE (.*)$", dockerfile(service), re.M)[-1].split()
    opened = {str(port["containerPort"]) for port in container["ports"]}
    user = re.findall(r"^USER (\d+):(\d+)$", dockerfile(service), re.M)

    assert name == told
    # What only the kubelet asks, images do not expose.
    assert opened - {"8222"} == set(exposed)
    if user:
        security = chart[service]["spec"]["securityContext"]
        assert user[-1] == (str(security["runAsUser"]), str(security["runAsGroup"]))
    else:
        assert service in {"npu-worker", "cpu-worker"}


@pytest.mark.parametrize("service", SERVICES)
def test_images_and_pods_agree_on_health(chart: dict[str, Manifest], service: str) -> None:
    (port, path) = re.findall(r"://127\.0\.0\.1:(\d+)(/\w+)", dockerfile(service))[-1]
    container = container_of(chart[service])
    ports = {p["name"]: str(p["containerPort"]) for p in container["ports"]}
    probe = container["readinessProbe"]["httpGet"]

    assert (ports[probe["port"]], probe["path"]) == (port, path)


@pytest.mark.parametrize("service", ["gateway", "npu-worker", "cpu-worker"])
def test_both_leave_time_to_drain(
    compose: Manifest, chart: dict[str, Manifest], service: str
) -> None:
    (settings, *_) = CLASSES[service]
    drain_s: Any = settings.model_fields["drain_timeout_s"].default
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    group = {"gateway": "gateway", "npu-worker": "npuWorker", "cpu-worker": "cpuWorker"}[service]

    assert values[group]["settings"]["drain_timeout_s"] == drain_s
    assert chart[service]["spec"]["terminationGracePeriodSeconds"] > drain_s
    assert seconds(compose[service]["stop_grace_period"]) > drain_s


@pytest.mark.parametrize("service", ["nats", "gateway", "model-store"])
def test_both_give_the_same_memory(
    compose: Manifest, chart: dict[str, Manifest], service: str
) -> None:
    limit = container_of(chart[service])["resources"]["limits"]["memory"]

    assert bytes_of(limit) == bytes_of(compose[service]["mem_limit"])


@pytest.mark.parametrize("service", ["nats", *SERVICES])
def test_both_give_the_same_rights(
    compose: Manifest, chart: dict[str, Manifest], service: str
) -> None:
    security = container_of(chart[service])["securityContext"]
    privileged = compose[service].get("privileged", False)

    assert compose[service]["read_only"] is security["readOnlyRootFilesystem"] is True
    assert privileged is security.get("privileged", False) is (service == "npu-worker")
    if not privileged:
        assert compose[service]["cap_drop"] == security["capabilities"]["drop"] == ["ALL"]
        assert "no-new-privileges:true" in compose[service]["security_opt"]


def test_both_put_the_vendors_library_where_it_is_looked_for(compose: Manifest) -> None:
    mounted = next(v for v in compose["npu-worker"]["volumes"] if "rkllm" in v).split(":")[-2]
    pod = next(p for _, p in pods(render("two-kinds-of-boards")) if component(p) == "npu-worker")
    (mount,) = (m for m in container_of(pod)["volumeMounts"] if m["name"] == "library")

    assert mount["mountPath"] == mounted == "/rkllm"
