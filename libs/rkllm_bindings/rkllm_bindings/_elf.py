"""Reads what a shared library exports, without loading it: just enough of ELF for that."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm", 3: "i386"}
_SHT_DYNSYM = 11
_SYMBOL_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """The head of a shared library."""

    bits: int
    machine: str
    """As `platform.machine()` names it."""
    exports: frozenset[str] | None
    """Names that its dynamic symbol table defines. None: it has no table that could be read."""


def read(data: bytes | mmap.mmap) -> Elf | None:
    """The head and the exported names of a little-endian ELF file; None for anything else."""
    if len(data) < 20 or data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] != 1:
        return None
    bits = 64 if data[4] == 2 else 32
    (number,) = struct.unpack_from("<H", data, 18)
    machine = MACHINES.get(number, f"machine {number}")
    exports = None
    if bits == 64:
        try:
            exports = _exports(data)
        except (struct.error, IndexError, UnicodeDecodeError):
            # Cut off or damaged: it cannot say what it exports.
            exports = None
    return Elf(bits=bits, machine=machine, exports=exports)


def _exports(data: bytes | mmap.mmap) -> frozenset[str] | None:
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry_bytes, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [
        struct.unpack_from("<IIQQQQII", data, table + index * entry_bytes) for index in range(count)
    ]
    for section in sections:
        if section[1] == _SHT_DYNSYM:
            _, _, _, _, offset, size, link, _ = section
            strings = sections[link][4]
            return frozenset(_defined(data, offset, size, strings))
    return None


def _defined(data: bytes | mmap.mmap, offset: int, size: int, strings: int) -> list[str]:
    names = []
    for at in range(offset, offset + size, _SYMBOL_BYTES):
        name, _, _, section = struct.unpack_from("<IBBH", data, at)
        if section != 0 and name != 0:
            end = data.find(b"\0", strings + name)
            names.append(bytes(data[strings + name : end]).decode("ascii"))
    return names
