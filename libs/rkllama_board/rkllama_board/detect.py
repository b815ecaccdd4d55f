"""Find out what this board is, from what can be read without root first.

Nothing is opened but device nodes, and those only to ask their driver's name and version. Every path hangs
below `root`, so tests build small trees. Names and formats are those of the rknpu
driver 0.9.8, of the kernel's devfreq and cpufreq, and of proc(5).
"""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rkllama_board import drm
from rkllama_board.board import Board, Clock, NodeKind, SocSource
from rkllama_board.cpus import format_cpus, parse_cpus
from rkllama_board.files import exists, link_name, numbered, read_number, read_text
from rkllama_board.measuring import driver_files, memory_info, npu_load
from rkllama_board.soc import parse_part, parse_soc, soc_at

_DRIVER = "RKNPU"
_DRM_NAME = "rknpu"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_KHZ = 1000

Ask = Callable[[Path], drm.DrmVersion | None]


def detect(root: Path = Path("/"), *, platform: str = "", ask: Ask = drm.query_node) -> Board:
    """What this board is and has; never fails, unreadable things are unknown.

    Args:
        root: Where /dev, /proc and /sys are.
        platform: What the operator says the SoC is (`RKLLAMA_PLATFORM`); counts only if nothing is found.
        ask: How to ask the driver of a render node for its name and version.
    """
    node = _node(root, ask)
    part, source = _part(root, node.device, platform)
    soc = parse_soc(part)
    version, version_source = _driver_version(root, node, ask)
    memory = memory_info(root)
    return Board(
        soc=soc,
        soc_part=part,
        soc_source=source,
        setting=platform,
        setting_soc=parse_soc(platform),
        npu_node=node.path,
        node_kind=node.kind,
        node_permitted=node.path is not None and os.access(node.path, os.R_OK | os.W_OK),
        node_group=_group(node.path),
        announced_node=node.announced,
        driver_version=version,
        driver_version_source=version_source,
        npu_load_percent=npu_load(root),
        npu_clock=_npu_clock(root, node.device),
        clocks=(*_cpu_clocks(root), *_memory_clock(root)),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        cpus_online=parse_cpus(read_text(root / "sys/devices/system/cpu/online")),
        cpus_allowed=_cpus_allowed(root),
        rocket=_has_rocket(root),
        dma_heap=exists(root / "dev/dma_heap"),
    )


# ---------------------------------------------------------------------- the node


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    path: Path | None = None
    kind: NodeKind | None = None
    announced: Path | None = None
    device: Path | None = None
    """The NPU's folder in sysfs."""


def _node(root: Path, ask: Ask) -> _Node:
    """Sysfs knows the driver of each node; where it is hidden, the drivers themselves are asked."""
    for entry in numbered(root / "sys/class/drm", "renderD*"):
        if _is_npu(entry / "device"):
            return _announced(root / "dev/dri" / entry.name, NodeKind.DRM, entry / "device")
    misc = root / "dev/rknpu"
    entry = root / "sys/class/misc/rknpu"
    if exists(entry):
        return _announced(misc, NodeKind.MISC, entry / "device")
    if exists(misc):
        return _Node(path=misc, kind=NodeKind.MISC)
    for path in numbered(root / "dev/dri", "renderD*"):
        answer = ask(path)
        if answer is not None and answer.name == _DRM_NAME:
            return _Node(path=path, kind=NodeKind.DRM)
    return _Node()


def _announced(path: Path, kind: NodeKind, device: Path) -> _Node:
    return _Node(
        path=path if exists(path) else None,
        kind=kind,
        announced=path,
        device=device if exists(device) else None,
    )


def _is_npu(device: Path) -> bool:
    return link_name(device / "driver") == _DRIVER or "rknpu" in read_text(
        device / "of_node/compatible"
    )


def _group(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        number = path.stat().st_gid
    except OSError:
        return ""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)  # A container need not know the host's groups.


def _has_rocket(root: Path) -> bool:
    return exists(root / "sys/module/rocket") or any(
        link_name(entry / "device/driver") == "rocket"
        for entry in numbered(root / "sys/class/accel", "accel*")
    )


# ---------------------------------------------------------------------- the chip and its driver


def _part(root: Path, device: Path | None, platform: str) -> tuple[str, SocSource]:
    for tree in ("proc/device-tree", "sys/firmware/devicetree/base"):
        if part := parse_part(read_text(root / tree / "compatible")):
            return part, SocSource.DEVICE_TREE
    # Containers hide the device tree, and with it the first of these two; the address stays.
    if device is not None and (part := parse_part(read_text(device / "of_node/compatible"))):
        return part, SocSource.NPU_COMPATIBLE
    for name in _npu_names(root, device):
        if (soc := soc_at(name)) is not None:
            return soc.value, SocSource.NPU_ADDRESS
    if part := parse_part(platform):
        return part, SocSource.SETTING
    return "", SocSource.NOTHING


def _npu_names(root: Path, device: Path | None) -> list[str]:
    names = [entry.name for entry in numbered(root / "sys/class/devfreq", "*.npu")]
    if device is not None:
        names.insert(0, device.resolve().name)
    return names


def _driver_version(root: Path, node: _Node, ask: Ask) -> tuple[str, str]:
    path = root / "sys/module/rknpu/version"
    if version := _version_in(read_text(path)):
        return version, str(path)
    if node.path is not None and node.kind is NodeKind.DRM:
        answer = ask(node.path)
        if answer is not None and answer.name == _DRM_NAME:
            return ".".join(map(str, answer.version)), "DRM_IOCTL_VERSION"
    for path in driver_files(root, "version"):
        if version := _version_in(read_text(path)):
            return version, str(path)
    return "", ""


def _version_in(text: str) -> str:
    found = _VERSION.search(text)
    return found.group() if found else ""


# ---------------------------------------------------------------------- clocks, memory, CPUs


def _npu_clock(root: Path, device: Path | None) -> Clock | None:
    folder = root / "sys/class/devfreq"
    own = folder / device.resolve().name if device is not None else None
    if own is not None and exists(own):
        return _devfreq("NPU", own)
    return next((_devfreq("NPU", entry) for entry in numbered(folder, "*.npu")), None)


def _memory_clock(root: Path) -> list[Clock]:
    """Many images have none: it needs firmware that matches."""
    path = root / "sys/class/devfreq/dmc"
    return [_devfreq("memory", path)] if exists(path) else []


def _devfreq(name: str, path: Path) -> Clock:
    steps = [
        int(step) for step in read_text(path / "available_frequencies").split() if step.isdigit()
    ]
    return Clock(
        name=name,
        path=path,
        governor=read_text(path / "governor").strip(),
        current_hz=read_number(path / "cur_freq"),
        maximum_hz=max(steps) if steps else read_number(path / "max_freq"),
    )


def _cpu_clocks(root: Path) -> list[Clock]:
    """One for each group of CPUs that share a clock; cpufreq counts in kHz."""
    found = []
    for path in numbered(root / "sys/devices/system/cpu/cpufreq", "policy*"):
        cpus = sorted(int(number) for number in read_text(path / "related_cpus").split())
        current, maximum = (
            read_number(path / name) for name in ("scaling_cur_freq", "cpuinfo_max_freq")
        )
        found.append(
            Clock(
                name=f"CPU {format_cpus(cpus)}" if cpus else f"CPU {path.name}",
                path=path,
                governor=read_text(path / "scaling_governor").strip(),
                current_hz=None if current is None else current * _KHZ,
                maximum_hz=None if maximum is None else maximum * _KHZ,
            )
        )
    return found


def _cpus_allowed(root: Path) -> frozenset[int]:
    for line in read_text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return parse_cpus(value)
    return frozenset()
