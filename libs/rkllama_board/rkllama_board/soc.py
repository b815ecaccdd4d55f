"""The systems on a chip that RKLLM knows, and what is particular to each.

Sources named below: `DRV` the rknpu kernel driver 0.9.8; `SDK` the manual of runtime 1.3.0, §3.1.3;
`EX` the vendor's example programs; `SCR` the vendor's frequency scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Soc(StrEnum):
    """A chip family as RKLLM tells them apart; the value is what `RKLLAMA_PLATFORM` says."""

    RK3588 = "rk3588"
    RK3576 = "rk3576"
    RK3562 = "rk3562"
    RV1126B = "rv1126b"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocFacts:
    """What the runtime and the operator need to know of one family."""

    soc: Soc
    parts: tuple[str, ...]
    """Part names that count as this family."""
    npu_cores: int
    """Cores of the NPU; `Board.npu_cores` knows the parts that have fewer (DRV; RV1126B: SDK)."""
    cpu_mask: int
    """Bit per CPU: those the vendor's programs give to the runtime, the fast ones where there are two
    kinds (EX). The runtime pins its threads to them."""
    npu_device: str
    """Name of the NPU's platform and devfreq device, that is its address and `.npu` (SCR)."""
    first_domain: int
    """First IOMMU domain for language models; 0 is left to vision models where the vendor does so (EX)."""
    quantisations: tuple[str, ...]
    """Weight types that models for this family can have (SDK)."""


_GROUPED_W4 = ("w4a16_g32", "w4a16_g64", "w4a16_g128")

FACTS: dict[Soc, SocFacts] = {
    facts.soc: facts
    for facts in (
        SocFacts(
            soc=Soc.RK3588,
            parts=("rk3588", "rk3588s", "rk3583"),
            npu_cores=3,
            cpu_mask=0xF0,
            npu_device="fdab0000.npu",
            first_domain=1,
            quantisations=("w8a8", "w8a8_g128", "w8a8_g256", "w8a8_g512"),
        ),
        SocFacts(
            soc=Soc.RK3576,
            parts=("rk3576",),
            npu_cores=2,
            cpu_mask=0xF0,
            npu_device="27700000.npu",
            first_domain=1,
            quantisations=("w4a16", *_GROUPED_W4, "w8a8"),
        ),
        SocFacts(
            soc=Soc.RK3562,
            parts=("rk3562",),
            npu_cores=1,
            cpu_mask=0x0F,
            npu_device="ff300000.npu",
            first_domain=0,
            quantisations=("w8a8", *_GROUPED_W4, "w4a8_g32"),
        ),
        SocFacts(
            soc=Soc.RV1126B,
            parts=("rv1126b",),
            npu_cores=1,
            cpu_mask=0x0F,
            npu_device="22000000.npu",
            first_domain=0,
            quantisations=("w4a16", *_GROUPED_W4, "w8a8"),
        ),
    )
}

NPU_CORES_BY_PART = {"rk3583": 2}
"""Parts with fewer cores than their family (DRV)."""

_FAMILY_OF_PART = {part: facts.soc for facts in FACTS.values() for part in facts.parts}
_WORDS = re.compile(r"[\0\s,;:_/-]+")


def parse_part(text: str) -> str:
    r"""The first part name in `text`, or empty.

    `text` is a device tree's `compatible` (entries end with NUL, most particular first), such as
    `radxa,rock-5b\0rockchip,rk3588\0` or `rockchip,rk3588-rknpu\0`, or what an operator wrote.
    A longer name is not taken for a shorter one: `rv1126` is another chip than `rv1126b`.
    """
    return next((word for word in _WORDS.split(text.lower()) if word in _FAMILY_OF_PART), "")


def parse_soc(text: str) -> Soc | None:
    """The family of the first part name in `text` (as `parse_part`), or None."""
    return _FAMILY_OF_PART.get(parse_part(text))


def soc_at(npu_device: str) -> Soc | None:
    """The family whose NPU has this device name, such as `fdab0000.npu`, or None."""
    return next((facts.soc for facts in FACTS.values() if facts.npu_device == npu_device), None)
