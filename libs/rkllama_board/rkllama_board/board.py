"""What can be known of a board: the values that `detect` finds and `checks` judges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rkllama_board.soc import FACTS, NPU_CORES_BY_PART, Soc, SocFacts

PLATFORM_VARIABLE = "RKLLAMA_PLATFORM"
"""The environment variable whose text callers pass to `detect`."""


class SocSource(StrEnum):
    """How the SoC was found; the value reads after "found by"."""

    DEVICE_TREE = "the device tree"
    NPU_COMPATIBLE = "the NPU's device tree entry"
    NPU_ADDRESS = "the NPU's address in sysfs"
    SETTING = PLATFORM_VARIABLE
    NOTHING = "nothing"


class NodeKind(StrEnum):
    """The two ways in which the kernel driver can be built."""

    DRM = "drm"
    """A render node under /dev/dri."""
    MISC = "misc"
    """/dev/rknpu, with buffers from a DMA heap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A clock that the speed depends on."""

    name: str
    """`NPU`, `memory`, or `CPU 4-7`."""
    path: Path
    """The folder in sysfs."""
    governor: str
    """Empty if it cannot be read."""
    current_hz: int | None
    maximum_hz: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A machine as this process sees it. What could not be read is None or empty."""

    soc: Soc | None
    soc_part: str
    """The part as found, such as `rk3588s`; empty if unknown."""
    soc_source: SocSource
    setting: str
    """What the operator said the platform is."""
    setting_soc: Soc | None
    """The same, understood."""
    npu_node: Path | None
    """The NPU's device node in /dev: the render node, or /dev/rknpu."""
    node_kind: NodeKind | None
    node_permitted: bool
    """This process may open `npu_node` for reading and writing."""
    node_group: str
    """The group that owns `npu_node`."""
    announced_node: Path | None
    """The node that the kernel has, whether or not it is in this process's /dev."""
    driver_version: str
    """The rknpu driver's, such as `0.9.8`."""
    driver_version_source: str
    """A path, or `DRM_IOCTL_VERSION`."""
    npu_load_percent: tuple[int, ...] | None
    """Per core, over the last second; one number where the driver gives one for all."""
    npu_clock: Clock | None
    clocks: tuple[Clock, ...]
    """CPUs and memory."""
    memory_bytes: int | None
    memory_available_bytes: int | None
    cpus_online: frozenset[int]
    cpus_allowed: frozenset[int]
    """Those this process may run on (cpuset, affinity)."""
    rocket: bool
    """The mainline kernel's NPU driver is here, which the vendor's library cannot use."""
    dma_heap: bool
    """/dev/dma_heap is here."""

    @property
    def facts(self) -> SocFacts | None:
        """The table's row of this SoC."""
        return FACTS[self.soc] if self.soc else None

    @property
    def npu_cores(self) -> int | None:
        """Cores of the NPU."""
        return NPU_CORES_BY_PART.get(self.soc_part, FACTS[self.soc].npu_cores) if self.soc else None

    @property
    def contradicted(self) -> bool:
        """The operator named another SoC than the one that was found; the found one counts."""
        return self.setting_soc is not None and self.setting_soc is not self.soc
