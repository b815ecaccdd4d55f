"""What a worker tells Prometheus of its board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rkllama_board import detect
from rkllama_board.measuring import Readings
from rkllama_protocol.messages import ModelDetails, ResolvedModel
from rkllama_worker.metrics import OUTCOMES, BoardState, Metrics
from rkllama_worker.residency import Resident

GIB = 2**30


def told(metrics: Metrics, name: str, label: str = "") -> dict[str, float]:
    """The values of one metric by one of its labels."""
    text = generate_latest(metrics.registry).decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {s.labels.get(label, ""): s.value for s in samples if s.name == name}


def resident(name: str, letter: str = "a", **facts: Any) -> Resident:
    model = ResolvedModel(
        name=name,
        full_name=name,
        digest=f"sha256:{letter * 64}",
        size=1,
        modified_at="2026-01-01T00:00:00Z",
        details=ModelDetails(),
    )
    return Resident(**{"model": model, "size": GIB, "keep_alive_s": 1.0, "state": "ready", **facts})


def metrics_of(residents: list[Resident], state: BoardState = BoardState.IDLE) -> Metrics:
    metrics = Metrics("w")
    metrics.tell(
        state=lambda: state,
        residents=lambda: residents,
        memory_limit_bytes=8 * GIB,
        saved_bytes=lambda: 0,
    )
    return metrics


def test_a_model_that_is_gone_has_no_series() -> None:
    residents = [resident("m:latest"), resident("n:latest", "b", state="loading")]
    metrics = metrics_of(residents)
    before = told(metrics, "rkllama_board_model_resident", "model")
    sizes = told(metrics, "rkllama_board_model_bytes", "model")
    residents.clear()

    assert before == {"m:latest": 1}
    assert sizes == {"m:latest": GIB, "n:latest": GIB}
    assert told(metrics, "rkllama_board_model_resident", "model") == {}


def test_a_model_that_was_made_anew_while_its_older_self_is_here_is_one_series() -> None:
    metrics = metrics_of([resident("m:latest", "a"), resident("m:latest", "b")])

    assert told(metrics, "rkllama_board_model_resident", "model") == {"m:latest": 1}
    assert told(metrics, "rkllama_board_model_bytes", "model") == {"m:latest": 2 * GIB}


def test_a_board_does_one_thing() -> None:
    states = told(metrics_of([], BoardState.DECODE), "rkllama_board_state", "state")

    assert states == {each.value: float(each is BoardState.DECODE) for each in BoardState}


def test_what_can_go_wrong_is_zero_before_it_does() -> None:
    assert told(Metrics("w"), "rkllama_worker_runs_total", "outcome") == dict.fromkeys(OUTCOMES, 0)


def test_what_was_not_measured_is_not_told() -> None:
    metrics = Metrics("w")
    before = told(metrics, "rkllama_board_ram_bytes")
    metrics.measured(
        Readings(temperatures={}, limits={}, memory_bytes=GIB, memory_available_bytes=None)
    )

    assert before == {}
    assert told(metrics, "rkllama_board_ram_bytes") == {"": GIB}
    for name in ("board_ram_available_bytes", "npu_frequency_hertz", "npu_load_ratio"):
        assert told(metrics, f"rkllama_{name}") == {}, name


def test_sensors_are_told_by_core_and_zone() -> None:
    metrics = Metrics("w")
    metrics.measured(
        Readings(
            npu_load=(0.5, 0.0),
            npu_hz=10**9,
            temperatures={"soc-thermal": 46.0},
            limits={"soc-thermal": 75.0},
            memory_bytes=None,
            memory_available_bytes=None,
        )
    )

    assert told(metrics, "rkllama_npu_load_ratio", "core") == {"0": 0.5, "1": 0.0}
    assert told(metrics, "rkllama_npu_frequency_hertz") == {"": 1e9}
    assert told(metrics, "rkllama_board_temperature_celsius", "zone") == {"soc-thermal": 46.0}
    assert told(metrics, "rkllama_board_temperature_limit_celsius", "zone") == {"soc-thermal": 75.0}


def test_a_machine_without_an_npu_says_what_it_runs(tmp_path: Path) -> None:
    metrics = Metrics("w")
    metrics.describe(detect(tmp_path, platform="rk3588"), None, ("gguf",))

    assert told(metrics, "rkllama_runtime_info", "soc") == {"rk3588": 1}
    assert told(metrics, "rkllama_runtime_info", "rkllm") == {"": 1}
    assert told(metrics, "rkllama_runtime_info", "runtimes") == {"gguf": 1}
