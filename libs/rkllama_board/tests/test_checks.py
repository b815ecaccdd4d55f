"""What is said of a board, as tables over a good one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rkllama_board.board import Board, Clock, NodeKind, SocSource
from rkllama_board.checks import Finding, Level, LibraryFacts, check, check_model
from rkllama_board.soc import Soc

GIB = 2**30
NODE = Path("/dev/dri/renderD129")
NPU = Clock(
    name="NPU",
    path=Path("/sys/class/devfreq/fdab0000.npu"),
    governor="performance",
    current_hz=1_000_000_000,
    maximum_hz=1_000_000_000,
)
GOOD = Board(
    soc=Soc.RK3588,
    soc_part="rk3588",
    soc_source=SocSource.DEVICE_TREE,
    setting="",
    setting_soc=None,
    npu_node=NODE,
    node_kind=NodeKind.DRM,
    node_permitted=True,
    node_group="render",
    announced_node=NODE,
    driver_version="0.9.8",
    driver_version_source="/sys/module/rknpu/version",
    npu_load_percent=None,
    npu_clock=NPU,
    clocks=(),
    memory_bytes=8 * GIB,
    memory_available_bytes=6 * GIB,
    cpus_online=frozenset(range(8)),
    cpus_allowed=frozenset(range(8)),
    rocket=False,
    dma_heap=False,
)
NO_NODE: dict[str, Any] = {"npu_node": None, "node_permitted": False, "node_kind": None}
NO_SOC: dict[str, Any] = {"soc": None, "soc_part": "", "soc_source": SocSource.NOTHING}
LIBRARY = LibraryFacts(path="/usr/lib/librkllmrt.so", version="1.3.0", family="abi-1.3.0")


def complaints(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


def test_a_good_board_has_nothing_to_mend() -> None:
    findings = check(GOOD, library=LIBRARY)

    assert complaints(findings) == []
    topics = [finding.topic for finding in findings]
    assert topics == ["soc", "node", "driver", "library", "memory", "cpus", "clocks"]
    assert not any(finding.mend for finding in findings)


@pytest.mark.parametrize(
    ("change", "level", "topic", "said", "mend"),
    [
        (NO_SOC, "error", "soc", "unknown", "RKLLAMA_PLATFORM to one of rk3588, rk3576, rk3562"),
        (NO_SOC | {"setting": "rk9"}, "error", "soc", "says 'rk9'", "RKLLAMA_PLATFORM"),
        (
            {"setting": "rk3576", "setting_soc": Soc.RK3576},
            "warn",
            "soc",
            "'rk3576', the device tree says rk3588; rk3588 counts",
            "remove RKLLAMA_PLATFORM",
        ),
        ({"setting": "rk9"}, "warn", "soc", "'rk9'", "remove"),
        (
            NO_NODE | {"node_kind": NodeKind.DRM},
            "error",
            "node",
            "renderD129, but it is not in",
            "--device /dev/dri --group-add",
        ),
        (
            NO_NODE | {"node_kind": NodeKind.MISC, "announced_node": Path("/dev/rknpu")},
            "error",
            "node",
            "the kernel has /dev/rknpu",
            "--device /dev/rknpu",
        ),
        (
            {"node_permitted": False, "node_group": "npu"},
            "error",
            "node",
            "may not open /dev/dri/renderD129 (group npu)",
            "usermod -aG video,render,npu USER",
        ),
        ({"node_permitted": False}, "error", "node", "may not", "-aG video,render USER"),
        ({"node_kind": NodeKind.MISC}, "warn", "node", "DMA heap", "/dev/dma_heap"),
        ({"driver_version": "0.8.2"}, "error", "driver", "0.8.2", "0.9.8"),
        ({"driver_version": "0.9.5"}, "error", "driver", "too old", "0.9.8"),
        ({"driver_version": "0.9.6"}, "warn", "driver", "older than", "0.9.8"),
        ({"driver_version": ""}, "warn", "driver", "cannot be read", "debug/rknpu/version"),
        (
            {"npu_clock": replace(NPU, current_hz=300_000_000, governor="rknpu_ondemand")},
            "warn",
            "clocks",
            "NPU at 300 of 1000 MHz, governor rknpu_ondemand",
            "fix_freq_rk3588.sh",
        ),
        (
            {"cpus_allowed": frozenset({0, 1, 2, 3, 4})},
            "warn",
            "cpus",
            "wants CPUs 4-7, and this process may not use 5-7",
            "cpuset",
        ),
        ({"cpus_online": frozenset(range(7))}, "warn", "cpus", "of which 7 is not", "online"),
        ({"memory_available_bytes": GIB // 2}, "warn", "memory", "0.5 GiB of 8.0", "RAM"),
        ({"memory_bytes": None}, "warn", "memory", "cannot be read", ""),
    ],
)
def test_each_flaw_is_one_finding_that_says_how_to_mend_it(
    change: dict[str, Any], level: str, topic: str, said: str, mend: str
) -> None:
    (finding,) = complaints(check(replace(GOOD, **change), library=LIBRARY))

    assert (finding.level, finding.topic) == (level, topic)
    assert said in finding.text
    assert mend in finding.mend


def test_a_mainline_kernel_is_named_as_the_reason() -> None:
    board = replace(GOOD, **NO_NODE, announced_node=None, driver_version="", rocket=True)

    (finding,) = complaints(check(board))

    assert finding.level is Level.ERROR
    assert "rocket" in finding.text
    assert "vendor's kernel" in finding.mend


def test_no_node_at_all_is_one_finding() -> None:
    """The driver is not complained of beside it."""
    board = replace(GOOD, **NO_NODE, announced_node=None, driver_version="")

    (finding,) = complaints(check(board))

    assert (finding.level, finding.topic) == (Level.ERROR, "node")


@pytest.mark.parametrize(
    "change",
    [
        {"driver_version": "0.9.7"},
        {"driver_version": "0.10.0"},
        {"npu_clock": None},
        {"npu_clock": replace(NPU, current_hz=1, governor="performance")},
        {"npu_clock": replace(NPU, governor="userspace")},
        {"cpus_allowed": frozenset()},
        {"soc_part": "rk3583"},
        {"setting": "rk3588s", "setting_soc": Soc.RK3588},
    ],
)
def test_what_is_not_wrong_is_not_complained_of(change: dict[str, Any]) -> None:
    assert complaints(check(replace(GOOD, **change))) == []


def test_a_library_that_was_named_runs_without_a_node() -> None:
    board = replace(GOOD, **NO_NODE, announced_node=None, driver_version="")

    (finding,) = complaints(check(board, library=replace(LIBRARY, named=True)))

    assert (finding.level, finding.topic) == (Level.WARN, "node")


def test_an_emulator_needs_no_board_and_is_called_what_it_is() -> None:
    board = replace(GOOD, **NO_NODE, **NO_SOC, announced_node=None, driver_version="")

    findings = complaints(check(board, library=replace(LIBRARY, emulator=True)))

    assert {finding.level for finding in findings} == {Level.WARN}
    assert [finding.topic for finding in findings] == ["soc", "node", "library"]
    assert "emulator" in findings[2].text


def test_a_library_that_cannot_be_used_is_an_error() -> None:
    library = LibraryFacts(path="", problem="there is no librkllmrt.so")

    (finding,) = complaints(check(GOOD, library=library))

    assert (finding.level, finding.text) == (Level.ERROR, "there is no librkllmrt.so")


@pytest.mark.parametrize(
    ("size_bytes", "platform", "dtype", "level", "said"),
    [
        (GIB, "", "", "ok", "fits"),
        (GIB, "rk3588", "W8A8", "ok", "fits"),
        (GIB, "rk3576", "", "error", "converted for rk3576, this is rk3588"),
        (GIB, "", "w4a16", "error", "w4a16 weights"),
        (7 * GIB, "", "", "warn", "RAM available"),
        (9 * GIB, "", "", "error", "larger than this board's RAM"),
        (60 * GIB, "", "", "error", "NPU's addresses"),
    ],
)
def test_a_model_fits_the_board_or_not(
    size_bytes: int, platform: str, dtype: str, level: str, said: str
) -> None:
    (finding,) = check_model(GOOD, name="m", size_bytes=size_bytes, platform=platform, dtype=dtype)

    assert finding.level == level
    assert said in finding.text


def test_on_an_unknown_board_only_the_size_counts() -> None:
    (finding,) = check_model(
        replace(GOOD, **NO_SOC), name="m", size_bytes=GIB, platform="rk3576", dtype="w4a16"
    )

    assert finding.level is Level.OK
