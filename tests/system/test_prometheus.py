"""Rules, dashboard and configuration with the Prometheus that they are for, on two emulated boards.

The boards' sensors are files in the shape of the kernel's, seen by the workers in place of /sys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import ollama
import pytest

from tests import monitoring
from tests.emulated import create, emulated, known
from tests.stack import Stack, wait_until
from tests.system.prometheus import HANG_S, Prometheus, promtool

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MODELS = ("one", "two")
PROCESSES = 4
TURNS = 2
ROUNDS = 2
"""Rates need an event after the one that a series begins with."""
SENSORS = {
    "class/thermal/thermal_zone0/type": "soc-thermal\n",
    "class/thermal/thermal_zone0/temp": "46230\n",
    "class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
    "class/thermal/thermal_zone0/trip_point_0_temp": "75000\n",
    "class/devfreq/fdab0000.npu/cur_freq": "1000000000\n",
    "class/devfreq/fdab0000.npu/available_frequencies": "300000000 1000000000\n",
    "kernel/debug/rknpu/load": "NPU load:  Core0: 12%, Core1:  0%, Core2:  0%,\n",
    "kernel/debug/rknpu/version": "RKNPU driver: v0.9.8\n",
}
BECOME_A_BOARD = """
set -eu
mount --bind "$0/class" /sys/class
mount --bind "$0/kernel" /sys/kernel
export RKLLAMA_WORKER_NPU_NODE="$0/node-of-$RKLLAMA_WORKER_WORKER_ID"
touch "$RKLLAMA_WORKER_NPU_NODE"
exec "$@"
"""
"""In a mount namespace of its own."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A stack, and who watches it."""

    stack: Stack
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two boards that hold one of two models each, after conversations, swaps, and the death of a worker."""
    folder = tmp_path_factory.mktemp("watched")
    sensors = folder / "sys"
    for name, text in SENSORS.items():
        (sensors / name).parent.mkdir(parents=True, exist_ok=True)
        (sensors / name).write_text(text)
    with (
        emulated(
            folder,
            "abi-1.3.0",
            workers=2,
            worker_prefix=("unshare", "--mount", "sh", "-c", BECOME_A_BOARD, str(sensors)),
            RKLLAMA_WORKER_MAX_MODELS="1",
        ) as stack,
        Prometheus(folder / "prometheus", stack, workers=2) as prometheus,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        for model in MODELS:
            create(client, model, known(40, decode_tokens_per_s=200), folder)
        # Before anything happens, so that a rate sees all that does.
        wait_until(
            "everybody to be scraped",
            lambda: value(prometheus, "sum(up)") == PROCESSES,
            timeout_s=HANG_S,
        )
        for number in range(1, ROUNDS + 1):
            for model in MODELS:
                converse(client, model)
            scraped(prometheus, TURNS * len(MODELS) * number)
        yield Watched(stack, prometheus)


def scraped(prometheus: Prometheus, answers: int) -> None:
    """Wait until it knows of so many, and of what the boards counted as they ended."""
    counts = [
        f"sum({name})"
        for name in (
            'rkllama_requests_total{outcome="ok"}',
            'rkllama_worker_runs_total{outcome="finished"}',
        )
    ]
    wait_until(
        "the answers to be scraped",
        lambda: [value(prometheus, count) for count in counts] == [answers, answers],
        timeout_s=HANG_S,
    )


def converse(client: ollama.Client, model: str) -> None:
    """Two turns, of which the second begins with what the board holds."""
    history = [{"role": "user", "content": "Tell me a long story about a board and its fan. " * 4}]
    history.append(dict(client.chat(model, history).message))
    history.append({"role": "user", "content": "Go on."})
    client.chat(model, history)


def value(prometheus: Prometheus, query: str) -> float:
    """Of a query that has one sample; 0 if it has none."""
    found = prometheus.query(query)
    return float(found[0]["value"][1]) if found else 0.0


def test_promtool_finds_no_fault() -> None:
    assert "SUCCESS" in promtool("check", "config", monitoring.CONFIG)
    assert "SUCCESS" in promtool("check", "rules", monitoring.RULES)
    assert "SUCCESS" in promtool("test", "rules", monitoring.RULE_TESTS)


def test_promtools_linter_likes_what_each_process_tells(watched: Watched) -> None:
    stack = watched.stack
    for url in (stack.url, stack.worker_url(), stack.store_url()):
        text = httpx2.get(f"{url}/metrics", trust_env=False).text

        assert promtool("check", "metrics", given=text) == ""


def test_every_process_is_scraped(watched: Watched) -> None:
    assert watched.prometheus.targets() == {
        "gateway": ["up"], "worker": ["up", "up"], "store": ["up"],
    }  # fmt: skip


def test_while_all_is_well_nothing_fires(watched: Watched) -> None:
    of_the_machine = {"RkllamaBoardMemoryLow", "RkllamaStoreDiskLow"}

    assert {name for name, _ in watched.prometheus.firing()} <= of_the_machine


def test_every_query_of_the_dashboard_returns_data(watched: Watched) -> None:
    without = []
    for title, query in monitoring.queries():
        found = watched.prometheus.query(monitoring.filled_in(query, interval="1m"))
        values = [float(sample["value"][1]) for sample in found]
        if all(math.isnan(each) for each in values):
            without.append((title, query))

    assert without == []


def test_every_variable_of_the_dashboard_has_values(watched: Watched) -> None:
    values = {
        name: watched.prometheus.label_values(
            *re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
        )  # type: ignore[union-attr]
        for name, query in monitoring.variables().items()
    }

    assert values == {
        "model": ["_unknown", *(f"{model}:latest" for model in MODELS)],
        "worker": ["worker-1", "worker-2"],
    }


def test_the_sensors_of_a_board_are_told(watched: Watched) -> None:
    def one(query: str) -> float:
        return value(watched.prometheus, query)

    assert one('rkllama_board_temperature_celsius{worker_id="worker-1"}') == 46.23
    assert one('rkllama_npu_load_ratio{worker_id="worker-2", core="0"}') == 0.12
    assert one('rkllama_npu_frequency_hertz{worker_id="worker-1"}') == 1e9
    facts = {"soc": "rk3588", "driver": "0.9.8", "abi": "abi-1.3.0", "emulator": "true"}
    (info,) = watched.prometheus.query('rkllama_runtime_info{worker_id="worker-1"}')
    assert facts.items() <= info["metric"].items()


def test_a_worker_that_is_killed_is_said_to_be_silent(watched: Watched) -> None:
    watched.stack.kill("worker-2")
    silent = ("RkllamaWorkerSilent", "worker-2")
    wait_until("the alert to fire", lambda: silent in watched.prometheus.firing(), timeout_s=HANG_S)

    assert ("RkllamaWorkerSilent", "worker-1") not in watched.prometheus.firing()


def test_every_rule_was_evaluated_without_an_error(watched: Watched) -> None:
    rules = watched.prometheus.rules()

    assert {rule["name"] for rule in rules} == {
        rule.get("alert") or rule["record"] for rule in monitoring.rules()
    }
    assert [r for r in rules if r["health"] != "ok" or r.get("lastError")] == []
