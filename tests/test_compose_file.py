"""compose.yaml says what its pages and the settings say, without an engine; `make test-compose` runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings
from rkllama_gateway.settings import Settings as GatewaySettings
from rkllama_service.ollama_variables import STAND_INS
from rkllama_service.settings import Shared
from rkllama_store.settings import HubSettings
from rkllama_store.settings import Settings as StoreSettings
from rkllama_worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
FILES = ("compose.yaml", "compose.unprivileged.yaml")
OURS = ("nats", "model-store", "gateway", "npu-worker", "cpu-worker")
SERVICES: dict[str, tuple[type[BaseSettings], ...]] = {
    "gateway": (GatewaySettings, Shared),
    "model-store": (StoreSettings, HubSettings, Shared),
    "npu-worker": (WorkerSettings, Shared),
}
FIXED = {
    "RKLLAMA_HOST": "the image listens on every address",
    "RKLLAMA_DATA": "the image's own folder",
    "RKLLAMA_KEYS_FILE": "in the gateway's volume",
    "RKLLAMA_API_KEY": "of the command line",
    "RKLLAMA_NATS_TLS_CA_FILE": "the broker's network reaches nothing outside",
    "RKLLAMA_NATS_TLS_CERT_FILE": "the same",
    "RKLLAMA_NATS_TLS_KEY_FILE": "the same",
    "RKLLAMA_WORKER_HTTP_HOST": "the image listens on every address",
    "RKLLAMA_WORKER_CACHE_DIR": "the image's own folder, a volume",
    "RKLLAMA_STORE_HTTP_HOST": "the image listens on every address",
    "RKLLAMA_STORE_STORE_ID": "there is one store",
    "RKLLAMA_GATEWAY_SUBJECT_PREFIX": "the broker is the stack's own",
    "RKLLAMA_WORKER_SUBJECT_PREFIX": "the broker is the stack's own",
    "RKLLAMA_STORE_SUBJECT_PREFIX": "the broker is the stack's own",
}
"""Variables that compose.yaml leaves alone, and why."""
ELSEWHERE = {
    "RKLLAMA_AUTH": {"gateway"},
    "RKLLAMA_RKLLM_LIBRARY": {"npu-worker"},
    "RKLLAMA_RKLLM_ABI": {"npu-worker"},
    "RKLLAMA_PLATFORM": {"model-store", "npu-worker"},
}
"""Shared variables that only some services read."""


def service(name: str) -> dict[str, Any]:
    found = COMPOSE["services"][name]
    assert isinstance(found, dict)
    return found


def seconds(text: str) -> float:
    default = re.sub(r"\$\{\w+:-(.*)\}", r"\1", text)
    assert default.endswith("s"), text
    return float(default[:-1])


def test_every_variable_is_in_the_example_and_nothing_else() -> None:
    texts = [(ROOT / name).read_text() for name in FILES]
    read = {name for text in texts for name in re.findall(r"\$\{([A-Z][A-Z0-9_]*)", text)}
    passed = {
        name
        for found in COMPOSE["services"].values()
        for name, value in found.get("environment", {}).items()
        if value is None
    }
    listed = re.findall(r"^# ([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.M)

    assert sorted(listed) == sorted(read | passed | {"COMPOSE_PROFILES"})


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_can_be_said_in_the_environment_file(name: str) -> None:
    """A setting that is new is passed on, or said here why it is not."""
    wanted = {
        settings.model_config.get("env_prefix", "") + field.upper()
        for settings in SERVICES[name]
        for field in settings.model_fields
    }
    wanted |= {theirs for theirs, (ours, _) in STAND_INS.items() if ours in wanted}
    wanted -= {variable for variable, where in ELSEWHERE.items() if name not in where}
    said = set(service(name)["environment"])

    assert wanted - said <= set(FIXED)
    assert said <= wanted


@pytest.mark.parametrize(
    ("name", "settings"), [("gateway", GatewaySettings), ("npu-worker", WorkerSettings)]
)
def test_containers_may_take_longer_to_stop_than_they_drain(
    name: str, settings: type[BaseSettings]
) -> None:
    drain_s = settings.model_fields["drain_timeout_s"].default

    assert seconds(service(name)["stop_grace_period"]) >= drain_s + 10


def test_each_process_has_its_own_user_of_the_broker() -> None:
    """No container sees the password of another's."""
    mounted = {
        name: [volume for volume in found["volumes"] if volume.startswith("broker")]
        for name, found in COMPOSE["services"].items()
        if name != "setup" and "volumes" in found
    }
    with_broker = {name: volumes for name, volumes in mounted.items() if volumes}

    assert set(with_broker) == set(OURS)
    assert all(len(volumes) == 1 for volumes in with_broker.values())
    assert len({volumes[0].split(":")[0] for volumes in with_broker.values()}) == len(OURS)
    assert all(volumes[0].endswith(":ro") for volumes in with_broker.values())


@pytest.mark.parametrize("name", [*OURS, "prometheus", "grafana"])
def test_every_service_starts_again_keeps_little_log_and_cannot_change_its_image(name: str) -> None:
    found = service(name)

    assert found["restart"] == "unless-stopped"
    assert found["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert found["read_only"] is True
    assert "mem_limit" in found
    assert found.get("privileged", False) is (name == "npu-worker")
    assert name == "npu-worker" or found["cap_drop"] == ["ALL"]


def test_the_npus_worker_names_no_device() -> None:
    """A container whose device is missing does not start, and each kernel has only one of the two."""
    assert "devices" not in service("npu-worker")


def test_only_loopback_is_published_unless_a_person_says_so() -> None:
    published = {
        name: found["ports"] for name, found in COMPOSE["services"].items() if "ports" in found
    }

    assert set(published) == {"gateway", "prometheus", "grafana"}
    for ports in published.values():
        for port in ports:
            assert re.match(r"\$\{RKLLAMA_(MONITORING_)?PUBLISH:-127\.0\.0\.1\}:", port), port


def test_workers_are_in_the_network_that_reaches_nothing_outside() -> None:
    assert COMPOSE["networks"]["bus"] == {"internal": True}
    for name in ("nats", "npu-worker", "cpu-worker"):
        assert list(service(name)["networks"]) == ["bus"], name


def test_prometheus_finds_what_it_scrapes() -> None:
    """By names that compose gives, at ports that it sets."""
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    targets = {
        target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    ports = {
        "gateway": ("RKLLAMA_GATEWAY_PORT", {"gateway"}),
        "model-store": ("RKLLAMA_STORE_HTTP_PORT", {"model-store"}),
        "npu-worker": ("RKLLAMA_WORKER_HTTP_PORT", {"npu-worker"}),
    }
    known = set()
    for name, (variable, names) in ports.items():
        networks = service(name)["networks"]
        aliases = networks["bus"]["aliases"] if isinstance(networks, dict) else []
        known |= {f"{host}:{service(name)['environment'][variable]}" for host in {*names, *aliases}}

    assert targets <= known
    assert (ROOT / "monitoring" / "dashboards" / "rkllama.json").is_file()
