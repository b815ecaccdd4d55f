"""Detection, on small copies of what a board's /dev, /proc and /sys look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from rkllama_board import NodeKind, Soc, SocSource, detect
from rkllama_board.drm import DrmVersion
from rkllama_board.measuring import parse_load

ROCK_5B = "radxa,rock-5b\0rockchip,rk3588\0"


class Tree:
    """A root folder in the making."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def link(self, path: str, target: str) -> None:
        """A symbolic link to another place in the tree, relative as in sysfs."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        file.symlink_to(Path(*[".."] * path.count("/"), target))

    def drm(
        self, number: int, driver: str, *, device: str, compatible: str = "", in_dev: bool = True
    ) -> Path:
        """A render node and the card beside it, of the platform device `device`."""
        folder = f"sys/devices/platform/{device}"
        for name in (f"renderD{number}", f"card{number - 128}"):
            self.link(f"{folder}/drm/{name}/device", folder)
            self.link(f"sys/class/drm/{name}", f"{folder}/drm/{name}")
            if in_dev:
                self.write(f"dev/dri/{name}")
        self.link(f"{folder}/driver", f"sys/bus/platform/drivers/{driver}")
        if compatible:
            self.write(f"{folder}/of_node/compatible", compatible)
        return self.root / f"dev/dri/renderD{number}"

    def misc(self) -> Path:
        self.link("sys/class/misc/rknpu/device", "sys/devices/platform/fdab0000.npu")
        return self.write("dev/rknpu")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_without_anything_is_an_unknown_board(tree: Tree) -> None:
    board = detect(tree.root)

    assert board.soc is None
    assert board.soc_source is SocSource.NOTHING
    assert board.npu_node is None
    assert board.announced_node is None
    assert board.driver_version == ""
    assert board.facts is None
    assert board.npu_cores is None


def test_this_machine_can_be_asked() -> None:
    """The kernel that runs the tests tells its memory and CPUs."""
    board = detect()

    assert board.memory_bytes is not None
    assert board.memory_available_bytes is not None
    assert 0 < board.memory_available_bytes <= board.memory_bytes
    assert board.cpus_allowed
    assert board.cpus_allowed <= board.cpus_online


# ---------------------------------------------------------------------- the node


def test_the_node_is_that_of_the_rknpu_driver_whatever_its_number(tree: Tree) -> None:
    tree.drm(128, "panthor", device="fb000000.gpu", compatible="rockchip,rk3588-mali\0")
    node = tree.drm(129, "RKNPU", device="fdab0000.npu")

    board = detect(tree.root)

    assert board.npu_node == node
    assert board.announced_node == node
    assert board.node_kind is NodeKind.DRM
    assert board.node_permitted
    assert board.node_group


def test_on_a_board_without_a_display_it_is_the_first_node(tree: Tree) -> None:
    node = tree.drm(128, "RKNPU", device="27700000.npu")

    assert detect(tree.root).npu_node == node


def test_a_node_is_also_known_by_its_device_tree_entry(tree: Tree) -> None:
    node = tree.drm(130, "other", device="npu", compatible="rockchip,rk3562-rknpu\0")

    board = detect(tree.root)

    assert board.npu_node == node
    assert (board.soc, board.soc_source) == (Soc.RK3562, SocSource.NPU_COMPATIBLE)


def test_a_node_that_the_container_was_not_given_is_announced_and_missing(tree: Tree) -> None:
    node = tree.drm(129, "RKNPU", device="fdab0000.npu", in_dev=False)

    board = detect(tree.root)

    assert board.npu_node is None
    assert board.announced_node == node
    assert board.node_kind is NodeKind.DRM
    assert not board.node_permitted


def test_a_graphics_node_is_no_npu(tree: Tree) -> None:
    tree.drm(128, "panthor", device="fb000000.gpu")

    assert detect(tree.root).npu_node is None


def test_the_misc_device_is_found(tree: Tree) -> None:
    node = tree.misc()
    tree.write("dev/dma_heap/rk-dma-heap-cma")

    board = detect(tree.root)

    assert board.npu_node == node
    assert board.node_kind is NodeKind.MISC
    assert board.dma_heap


def test_the_misc_device_is_found_where_sysfs_is_hidden(tree: Tree) -> None:
    node = tree.write("dev/rknpu")

    board = detect(tree.root)

    assert (board.npu_node, board.announced_node) == (node, None)


def test_where_sysfs_is_hidden_the_nodes_are_asked_and_tell_the_driver_version(tree: Tree) -> None:
    """No root is needed: opening the node is enough."""
    tree.write("dev/dri/renderD128")
    tree.write("dev/dri/renderD129")
    names = {"renderD128": "panthor", "renderD129": "rknpu"}

    def ask(path: Path) -> DrmVersion:
        return DrmVersion(name=names[path.name], version=(0, 9, 8), date="", description="")

    board = detect(tree.root, ask=ask)

    assert board.npu_node == tree.root / "dev/dri/renderD129"
    assert (board.driver_version, board.driver_version_source) == ("0.9.8", "DRM_IOCTL_VERSION")


@pytest.mark.parametrize("how", ["class", "module"])
def test_the_mainline_driver_is_seen(tree: Tree, how: str) -> None:
    if how == "class":
        tree.link("sys/class/accel/accel0/device/driver", "sys/bus/platform/drivers/rocket")
    else:
        tree.write("sys/module/rocket/refcnt", "0\n")

    board = detect(tree.root)

    assert board.rocket
    assert board.npu_node is None


# ---------------------------------------------------------------------- the chip


@pytest.mark.parametrize("place", ["proc/device-tree", "sys/firmware/devicetree/base"])
def test_the_device_tree_tells_the_soc(tree: Tree, place: str) -> None:
    tree.write(f"{place}/compatible", ROCK_5B)

    board = detect(tree.root)

    assert (board.soc, board.soc_part) == (Soc.RK3588, "rk3588")
    assert board.soc_source is SocSource.DEVICE_TREE
    assert board.npu_cores == 3


def test_a_part_with_fewer_cores_is_known(tree: Tree) -> None:
    tree.write("proc/device-tree/compatible", "vendor,box\0rockchip,rk3583\0rockchip,rk3588\0")

    board = detect(tree.root)

    assert (board.soc, board.soc_part, board.npu_cores) == (Soc.RK3588, "rk3583", 2)


def test_in_a_container_without_a_device_tree_the_npus_address_tells(tree: Tree) -> None:
    """/sys/firmware is masked there, the rest of sysfs is not."""
    tree.drm(129, "RKNPU", device="27700000.npu", in_dev=False)

    board = detect(tree.root)

    assert (board.soc, board.soc_source) == (Soc.RK3576, SocSource.NPU_ADDRESS)


def test_the_devfreq_name_tells_too(tree: Tree) -> None:
    tree.write("sys/class/devfreq/22000000.npu/governor", "rknpu_ondemand\n")

    assert detect(tree.root).soc is Soc.RV1126B


def test_what_the_operator_says_counts_where_nothing_is_found(tree: Tree) -> None:
    board = detect(tree.root, platform="RK3576")

    assert (board.soc, board.soc_source) == (Soc.RK3576, SocSource.SETTING)
    assert not board.contradicted


def test_what_the_operator_says_does_not_outdo_what_is_found(tree: Tree) -> None:
    tree.write("proc/device-tree/compatible", ROCK_5B)

    board = detect(tree.root, platform="rk3576")

    assert (board.soc, board.soc_source) == (Soc.RK3588, SocSource.DEVICE_TREE)
    assert (board.setting, board.setting_soc) == ("rk3576", Soc.RK3576)
    assert board.contradicted


# ---------------------------------------------------------------------- driver, load, clocks


def test_the_driver_version_comes_from_sysfs_before_debugfs(tree: Tree) -> None:
    tree.drm(129, "RKNPU", device="fdab0000.npu")
    path = tree.write("sys/module/rknpu/version", "0.9.8\n")
    tree.write("sys/kernel/debug/rknpu/version", "RKNPU driver: v0.9.6\n")

    board = detect(tree.root)

    assert (board.driver_version, board.driver_version_source) == ("0.9.8", str(path))


@pytest.mark.parametrize("place", ["proc/rknpu/version", "sys/kernel/debug/rknpu/version"])
def test_the_drivers_own_files_tell_the_version(tree: Tree, place: str) -> None:
    tree.drm(129, "RKNPU", device="fdab0000.npu")
    path = tree.write(place, "RKNPU driver: v0.9.2\n")

    board = detect(tree.root)

    assert (board.driver_version, board.driver_version_source) == ("0.9.2", str(path))


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("NPU load:  Core0: 12%, Core1:  0%, Core2:100%,\n", (12, 0, 100)),
        ("NPU load:  7%\n", (7,)),
        ("NPU load:\n", None),
        ("99@1000000000Hz\n", None),
        ("", None),
    ],
)
def test_the_load_is_read_in_both_formats(
    tree: Tree, text: str, load: tuple[int, ...] | None
) -> None:
    """devfreq's own `load` may not mean work, and is not taken for it."""
    tree.write("sys/kernel/debug/rknpu/load", text)

    assert parse_load(text) == load
    assert detect(tree.root).npu_load_percent == load


def test_the_npus_clock_is_read(tree: Tree) -> None:
    folder = "sys/class/devfreq/fdab0000.npu"
    tree.write(f"{folder}/cur_freq", "300000000\n")
    tree.write(f"{folder}/available_frequencies", "300000000 1000000000 900000000\n")
    tree.write(f"{folder}/governor", "rknpu_ondemand\n")
    tree.write("sys/class/devfreq/fb000000.gpu/cur_freq", "1\n")

    clock = detect(tree.root).npu_clock

    assert clock is not None
    assert (clock.name, clock.governor) == ("NPU", "rknpu_ondemand")
    assert (clock.current_hz, clock.maximum_hz) == (300_000_000, 1_000_000_000)


def test_the_clocks_of_cpus_and_memory_are_read(tree: Tree) -> None:
    for policy, cpus in (("policy0", "0 1 2 3"), ("policy4", "4 5")):
        folder = f"sys/devices/system/cpu/cpufreq/{policy}"
        tree.write(f"{folder}/related_cpus", f"{cpus}\n")
        tree.write(f"{folder}/scaling_governor", "schedutil\n")
        tree.write(f"{folder}/scaling_cur_freq", "408000\n")
        tree.write(f"{folder}/cpuinfo_max_freq", "1800000\n")
    tree.write("sys/class/devfreq/dmc/cur_freq", "528000000\n")
    tree.write("sys/class/devfreq/dmc/max_freq", "2112000000\n")

    clocks = detect(tree.root).clocks

    assert [clock.name for clock in clocks] == ["CPU 0-3", "CPU 4-5", "memory"]
    assert (clocks[0].current_hz, clocks[0].maximum_hz) == (408_000_000, 1_800_000_000)
    assert (clocks[2].current_hz, clocks[2].maximum_hz) == (528_000_000, 2_112_000_000)
    assert clocks[2].governor == ""


def test_memory_and_cpus_are_read(tree: Tree) -> None:
    tree.write("proc/meminfo", "MemTotal:  8000 kB\nMemAvailable:  5000 kB\nHugePages_Total: 0\n")
    tree.write("sys/devices/system/cpu/online", "0-7\n")
    tree.write("proc/self/status", "Name:\tx\nCpus_allowed:\tf0\nCpus_allowed_list:\t4-7\n")

    board = detect(tree.root)

    assert board.memory_bytes == 8000 * 1024
    assert board.memory_available_bytes == 5000 * 1024
    assert board.cpus_online == set(range(8))
    assert board.cpus_allowed == {4, 5, 6, 7}
