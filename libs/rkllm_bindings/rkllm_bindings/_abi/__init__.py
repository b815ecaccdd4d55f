"""Declarations of librkllmrt's C interface, one module per ABI family. No behaviour.

    abi_1_1       1.1.0 1.1.1 1.1.2 1.1.3 1.1.4
    abi_1_2_0     1.2.0
    abi_1_2_1b1   1.2.1b1
    abi_1_2_1     1.2.1 1.2.2 1.2.3
    abi_1_3_0     1.3.0

Layouts are those of LP64 (aarch64 and x86-64 are the same; the 32-bit library has others).
"""

from __future__ import annotations

from rkllm_bindings._abi import abi_1_1, abi_1_2_0, abi_1_2_1, abi_1_2_1b1, abi_1_3_0
from rkllm_bindings._abi.family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.id: module.FAMILY
    for module in (abi_1_1, abi_1_2_0, abi_1_2_1b1, abi_1_2_1, abi_1_3_0)
}
"""By id, oldest first."""

FAMILY_OF_VERSION: dict[str, str] = {
    version: family.id for family in FAMILIES.values() for version in family.versions
}
