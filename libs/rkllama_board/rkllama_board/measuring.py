"""What changes while a board works: load, clock and temperatures, memory. What cannot be read is left out.

Formats are those of the rknpu driver 0.9.8, and of the kernel's devfreq, thermal zones and proc(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rkllama_board.board import Board
from rkllama_board.files import numbered, read_number, read_text

_PERCENT = re.compile(r"(\d+)\s*%")
_TRIP_TYPE = "trip_point_*_type"
_MILLI = 1000
_ABSOLUTE_ZERO = -273.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """A board at one moment."""

    npu_load: tuple[float, ...] = ()
    """Share of the last second that each core worked; one where the driver gives one for all."""
    npu_hz: int | None = None
    temperatures: Mapping[str, float]
    """Degrees Celsius by the name of the zone."""
    limits: Mapping[str, float]
    """Degrees from which on the kernel lowers clocks, of the zones that have such a point."""
    memory_bytes: int | None
    memory_available_bytes: int | None


def measure(board: Board, *, root: Path = Path("/")) -> Readings:
    """Read everything. Blocks for as long as the kernel takes: some milliseconds."""
    temperatures, limits = _temperatures(root)
    memory = memory_info(root)
    return Readings(
        npu_load=tuple(percent / 100 for percent in npu_load(root) or ()),
        npu_hz=read_number(board.npu_clock.path / "cur_freq") if board.npu_clock else None,
        temperatures=temperatures,
        limits=limits,
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
    )


def parse_load(text: str) -> tuple[int, ...] | None:
    """Percent per core of `NPU load:  Core0: 12%, Core1:  0%,` or `NPU load:  7%`; None of other texts."""
    _, found, rest = text.partition("NPU load:")
    loads = tuple(int(number) for number in _PERCENT.findall(rest)) if found else ()
    return loads or None


def driver_files(root: Path, name: str) -> list[Path]:
    """The driver's own files: in /proc if the kernel was built so, in debugfs for root."""
    return [root / "proc/rknpu" / name, root / "sys/kernel/debug/rknpu" / name]


def npu_load(root: Path) -> tuple[int, ...] | None:
    """Percent per core, over the last second; None if it cannot be read, which mostly takes root."""
    loads = (parse_load(read_text(path)) for path in driver_files(root, "load"))
    return next((load for load in loads if load is not None), None)


def memory_info(root: Path) -> dict[str, int]:
    """Bytes by name; /proc/meminfo counts in kB that are 1024 bytes."""
    fields = (line.split() for line in read_text(root / "proc/meminfo").splitlines())
    return {
        name.rstrip(":"): int(value) * 1024
        for name, value, *_ in (field for field in fields if len(field) > 1)
        if value.isdigit()
    }


def _temperatures(root: Path) -> tuple[dict[str, float], dict[str, float]]:
    temperatures: dict[str, float] = {}
    limits: dict[str, float] = {}
    for zone in numbered(root / "sys/class/thermal", "thermal_zone*"):
        degrees = _degrees(zone / "temp")
        if degrees is None:
            continue
        name = read_text(zone / "type").strip() or zone.name
        if name in temperatures:
            name = f"{name} {zone.name.removeprefix('thermal_zone')}"
        temperatures[name] = degrees
        trips = (
            _degrees(trip.with_name(trip.name.replace("_type", "_temp")))
            for trip in numbered(zone, _TRIP_TYPE)
            if read_text(trip).strip() == "passive"
        )
        if found := [trip for trip in trips if trip is not None]:
            limits[name] = min(found)
    return temperatures, limits


def _degrees(path: Path) -> float | None:
    """Of a file in thousandths of a degree; a sensor that is off tells nothing, or nonsense."""
    try:
        degrees = int(read_text(path)) / _MILLI
    except ValueError:
        return None
    return degrees if degrees > _ABSOLUTE_ZERO else None
