"""Values are documented, typed, and refused where they make no sense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.generated import DEFINITIONS, FILES, values_rows
from tests.chart.rendering import CHART, Manifest, template

REFUSED: dict[str, Manifest] = {
    "a misspelt value": {"gatway": {}},
    "a misspelt value inside": {"gateway": {"replica": 2}},
    "no gateway": {"gateway": {"replicas": 0}},
    "a fraction of a gateway": {"gateway": {"replicas": 1.5}},
    "a number as text": {"gateway": {"replicas": "2"}},
    "a field that no service has": {"gateway": {"settings": {"max_wating": 4}}},
    "a field that the chart sets": {"gateway": {"settings": {"port": 9090}}},
    "another service's field": {"gateway": {"settings": {"keep_alive_s": 60}}},
    "a field's value out of range": {"gateway": {"settings": {"max_waiting": 0}}},
    "a field's value of another type": {"npuWorker": {"settings": {"keep_alive_s": "1h"}}},
    "a version that is none": {"gateway": {"settings": {"api_version": "latest"}}},
    "no grace": {"npuWorker": {"settings": {"drain_timeout_s": -1}}},
    "two servers": {"nats": {"replicas": 2}},
    "a broker of its own and another": {"externalNats": {"url": "nats://nats:4222"}},
    "no broker": {"nats": {"enabled": False}},
    "an address that is no broker's": {
        "nats": {"enabled": False},
        "externalNats": {"url": "http://nats:4222"},
    },
    "a password in an address": {
        "nats": {"enabled": False},
        "externalNats": {"url": "nats://user:secret@nats:4222"},
    },
    "some Secrets of the broker": {"nats": {"existingSecrets": {"gateway": "mine"}}},
    "some Secrets of an external broker": {
        "nats": {"enabled": False},
        "externalNats": {"url": "nats://n:4222", "existingSecrets": {"gateway": "mine"}},
    },
    "an auth that is none": {"auth": {"mode": "none"}},
    "YAML's own idea of off": {"auth": {"mode": False}},
    "a chip that is none": {"npuWorker": {"socs": ["rk3399"]}},
    "a chip twice": {"npuWorker": {"socs": ["rk3588", "rk3588"]}},
    "no chip": {"npuWorker": {"socs": []}},
    "a board without a chip": {"npuWorker": {"nodes": [{"name": "board-1"}]}},
    "a name that no node has": {"npuWorker": {"nodes": [{"name": "Board_1", "soc": "rk3588"}]}},
    "an access that is none": {"npuWorker": {"access": {"mode": "usb"}}},
    "a resource without a domain": {
        "npuWorker": {"access": {"devicePlugin": {"resource": "rknpu"}}}
    },
    "a runtime that is none": {"npuWorker": {"runtime": "cuda"}},
    "a cache that is no path": {"npuWorker": {"cache": {"hostPath": "cache"}}},
    "a volume without a unit": {"modelStore": {"persistence": {"size": 64}}},
    "a volume without size": {"modelStore": {"persistence": {"size": "0Gi"}}},
    "memory in words": {"modelStore": {"resources": {"limits": {"memory": "a lot"}}}},
    "a hub that is no address": {"modelStore": {"hub": {"endpoint": "huggingface.co"}}},
    "an Ingress for nobody": {"ingress": {"enabled": True}},
    "a host with a scheme": {"ingress": {"enabled": True, "hosts": ["https://ai.lan"]}},
    "a certificate without hosts": {"ingress": {"tls": [{"secretName": "cert"}]}},
    "a controller that is none": {"ingress": {"controller": "apache"}},
    "a limit that cuts answers": {"ingress": {"timeoutSeconds": 1}},
    "KEDA without Prometheus": {"gateway": {"keda": {"enabled": True}}},
    "a threshold of nothing": {"cpuWorker": {"keda": {"threshold": 0}}},
    "a peer that is nobody": {"networkPolicy": {"gatewayFrom": [{}]}},
    "a digest that is none": {"gateway": {"image": {"digest": "latest"}}},
    "a pull policy that is none": {"image": {"pullPolicy": "Sometimes"}},
    "a prefix with a wildcard": {"subjectPrefix": "rkllama.>"},
    "an interval without a unit": {"monitoring": {"serviceMonitor": {"interval": "15"}}},
    "labels that are no text": {"gateway": {"podLabels": {"tier": 1}}},
    "a name that is too long": {"fullnameOverride": "x" * 41},
}
CONTRADICTIONS: dict[str, tuple[Manifest, str]] = {
    "two scalers of the gateways": (
        {
            "gateway": {
                "autoscaling": {"enabled": True},
                "keda": {"enabled": True, "prometheusUrl": "http://prometheus:9090"},
            }
        },
        "enable one",
    ),
    "more at least than at most": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}},
        "minReplicas is above maxReplicas",
    ),
    "the same of CPU workers": (
        {
            "cpuWorker": {
                "enabled": True,
                "keda": {
                    "enabled": True,
                    "prometheusUrl": "http://prometheus:9090",
                    "minReplicas": 9,
                },
            }
        },
        "minReplicas is above keda.maxReplicas",
    ),
    "boards with one name": (
        {
            "npuWorker": {
                "nodes": [
                    {"name": "board.1", "soc": "rk3588"},
                    {"name": "board-1", "soc": "rk3588"},
                ]
            }
        },
        "board-1",
    ),
    "TLS in two places": (
        {
            "ingress": {"enabled": True, "hosts": ["ai.lan"]},
            "gateway": {"tls": {"existingSecret": "certificate"}},
        },
        "exclude each other",
    ),
    "a time to end that follows from nothing": (
        {"gateway": {"settings": {"drain_timeout_s": None}}},
        "drain_timeout_s is needed",
    ),
    "a board that is named as a role": (
        {"npuWorker": {"nodes": [{"name": "gateway", "soc": "rk3588"}]}},
        "gateway",
    ),
}


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every value that is no group of others."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED.keys())
def test_nonsense_is_refused_by_the_schema(values: Manifest) -> None:
    code, _, complaint = template(values=values)

    assert code != 0
    assert "values don't meet the specifications of the schema" in complaint


@pytest.mark.parametrize(("values", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradictions_are_refused_with_a_sentence(values: Manifest, reason: str) -> None:
    code, _, complaint = template(values=values)

    assert code != 0
    assert reason in complaint


@pytest.mark.parametrize("name", FILES)
def test_what_follows_from_the_code_is_up_to_date(name: str) -> None:
    """`python -m tests.chart.generated` writes it again."""
    assert (CHART / name).read_text() == FILES[name]()


def test_every_value_is_in_the_table() -> None:
    """By itself, or in the row of a value that it is a part of."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [tuple(path.split(".")) for path, _, _ in values_rows()]
    paths = list(leaves(values))

    for path in paths:
        assert any(path[: len(row)] == row for row in rows), ".".join(path)
    for row in rows:
        assert any(path[: len(row)] == row for path in paths), ".".join(row)
    assert len(set(rows)) == len(rows)


def test_the_schema_knows_the_values_that_there_are_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(found: Manifest, values: Manifest, path: str) -> None:
        if "$ref" in found:
            name = found["$ref"].rpartition("/")[2]
            if name in {"image", "keda"}:
                found = schema["definitions"][name]
        if "properties" not in found:
            return
        assert found["additionalProperties"] is False, path
        assert set(found["properties"]) == set(values), path
        for key, value in values.items():
            compare(found["properties"][key], value, f"{path}.{key}")

    # What a parent chart calls `global` reaches every chart in it.
    del schema["properties"]["global"]
    compare(schema, values, "values")


def test_the_chart_sets_only_fields_that_there_are() -> None:
    for settings, own in DEFINITIONS.values():
        assert own <= set(settings.model_fields), settings
