"""The table of chips, and reading their names."""

from __future__ import annotations

import pytest
from rkllama_board.cpus import cpus_of, format_cpus, parse_cpus
from rkllama_board.soc import FACTS, Soc, parse_part, parse_soc, soc_at


@pytest.mark.parametrize(
    ("text", "part", "soc"),
    [
        ("radxa,rock-5b\0rockchip,rk3588\0", "rk3588", Soc.RK3588),
        ("xunlong,orangepi-5\0rockchip,rk3588s\0rockchip,rk3588\0", "rk3588s", Soc.RK3588),
        ("rockchip,rk3588s-evb1-lp4x-v10\0", "rk3588s", Soc.RK3588),
        ("rockchip,rk3583\0rockchip,rk3588\0", "rk3583", Soc.RK3588),
        ("rockchip,rk3576-rknpu\0", "rk3576", Soc.RK3576),
        ("rockchip,rk3562-rknpu\0", "rk3562", Soc.RK3562),
        ("rockchip,rv1126b\0", "rv1126b", Soc.RV1126B),
        (" RK3576\n", "rk3576", Soc.RK3576),
        ("rockchip,rv1126\0", "", None),
        ("rockchip,rk3568\0", "", None),
        ("rockchip,rk35880\0", "", None),
        ("linux,dummy-virt\0", "", None),
        ("", "", None),
    ],
)
def test_the_soc_is_read_from_device_trees_and_from_people(
    text: str, part: str, soc: Soc | None
) -> None:
    """A longer name is another chip: rv1126 has another NPU than rv1126b."""
    assert parse_part(text) == part
    assert parse_soc(text) is soc


@pytest.mark.parametrize("soc", Soc)
def test_every_soc_has_its_row(soc: Soc) -> None:
    facts = FACTS[soc]

    assert facts.soc is soc
    assert soc.value in facts.parts
    assert soc_at(facts.npu_device) is soc
    assert len(cpus_of(facts.cpu_mask)) >= facts.npu_cores, "the runtime asks for as many CPUs"


def test_an_address_of_another_chip_is_no_soc() -> None:
    assert soc_at("fde40000.npu") is None


@pytest.mark.parametrize(
    ("mask", "text", "cpus"),
    [
        (0xF0, "4-7", {4, 5, 6, 7}),
        (0x0F, "0-3", {0, 1, 2, 3}),
        (0x45, "0,2,6", {0, 2, 6}),
        (0, "", set()),
    ],
)
def test_cpus_are_masks_and_lists(mask: int, text: str, cpus: set[int]) -> None:
    assert cpus_of(mask) == cpus
    assert format_cpus(cpus) == text
    assert parse_cpus(text + "\n") == cpus


def test_a_cpu_list_that_is_none_is_empty() -> None:
    assert parse_cpus("all\n") == frozenset()
