"""What a board's sensors say, on small copies of /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest
from rkllama_board import detect
from rkllama_board.measuring import Readings, measure

DEVFREQ = "sys/class/devfreq/fdab0000.npu"
ZONE = "sys/class/thermal/thermal_zone"


def read(root: Path, **files: str) -> Readings:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return measure(detect(root), root=root)


def test_a_machine_without_sensors_has_no_figures(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert found == Readings(
        temperatures={}, limits={}, memory_bytes=None, memory_available_bytes=None
    )


@pytest.mark.parametrize("folder", ["proc/rknpu", "sys/kernel/debug/rknpu"])
def test_the_load_of_each_core_is_a_share(tmp_path: Path, folder: str) -> None:
    found = read(
        tmp_path, **{f"{folder}/load": "NPU load:  Core0: 12%, Core1:  0%, Core2: 100%,\n"}
    )

    assert found.npu_load == (0.12, 0.0, 1.0)


def test_the_clock_is_read_anew_each_time(tmp_path: Path) -> None:
    read(tmp_path, **{f"{DEVFREQ}/cur_freq": "300000000\n"})
    found = read(tmp_path, **{f"{DEVFREQ}/cur_freq": "1000000000\n"})

    assert found.npu_hz == 1_000_000_000


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    found = read(
        tmp_path, **{"proc/meminfo": "MemTotal: 8 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n"}
    )

    assert (found.memory_bytes, found.memory_available_bytes) == (8192, 2048)


def test_each_zone_has_its_name_and_its_first_passive_trip_point(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        **{
            f"{ZONE}0/type": "soc-thermal\n",
            f"{ZONE}0/temp": "46230\n",
            f"{ZONE}0/trip_point_0_type": "passive\n",
            f"{ZONE}0/trip_point_0_temp": "75000\n",
            f"{ZONE}0/trip_point_1_type": "passive\n",
            f"{ZONE}0/trip_point_1_temp": "85000\n",
            f"{ZONE}0/trip_point_2_type": "critical\n",
            f"{ZONE}0/trip_point_2_temp": "115000\n",
            f"{ZONE}1/type": "npu-thermal\n",
            f"{ZONE}1/temp": "-2500\n",
            f"{ZONE}1/trip_point_0_type": "critical\n",
            f"{ZONE}1/trip_point_0_temp": "115000\n",
        },
    )

    assert found.temperatures == {"soc-thermal": 46.23, "npu-thermal": -2.5}
    assert found.limits == {"soc-thermal": 75.0}


def test_zones_of_one_type_are_told_apart(tmp_path: Path) -> None:
    """Prometheus takes nothing at all of a process that tells one series twice."""
    zones = {f"{ZONE}{n}/type": "acpitz\n" for n in (0, 1, 10)}
    found = read(tmp_path, **zones, **{f"{ZONE}{n}/temp": f"{n}000\n" for n in (0, 1, 10)})

    assert found.temperatures == {"acpitz": 0.0, "acpitz 1": 1.0, "acpitz 10": 10.0}


@pytest.mark.parametrize("text", ["", "off\n", "-274000\n"])
def test_a_sensor_that_tells_nothing_has_no_figure(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, **{f"{ZONE}0/type": "soc-thermal\n", f"{ZONE}0/temp": text})

    assert found.temperatures == {}
