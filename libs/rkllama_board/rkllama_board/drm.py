"""DRM_IOCTL_VERSION: which driver a /dev/dri node belongs to, and the driver's version.

It needs no privilege beyond opening the node (`drm.h`):

    struct drm_version {
        int version_major, version_minor, version_patchlevel;
        __kernel_size_t name_len;  char __user *name;   /* in: room, out: true length; no NUL is written */
        __kernel_size_t date_len;  char __user *date;
        __kernel_size_t desc_len;  char __user *desc;
    };
"""

from __future__ import annotations

import fcntl
import os
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAYOUT = struct.Struct("@iiiNPNPNP")
"""`struct drm_version` with the platform's own sizes and padding: 64 bytes on 64-bit machines, 36 on 32-bit ones."""
_READ_WRITE = 3
_ROOM_BYTES = 64

Ioctl = Callable[[int, int, bytearray], object]


def version_request(size_bytes: int = LAYOUT.size) -> int:
    """`DRM_IOWR(0x00, struct drm_version)`: direction, size, type `d`, number 0 (asm-generic/ioctl.h)."""
    return _READ_WRITE << 30 | size_bytes << 16 | ord("d") << 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DrmVersion:
    """What a DRM driver says of itself; rknpu says `rknpu`, (0, 9, 8), `20240828`, `RKNPU driver`."""

    name: str
    version: tuple[int, int, int]
    date: str
    description: str


def query(fd: int, *, ioctl: Ioctl = fcntl.ioctl) -> DrmVersion:
    """Ask the driver behind an open node.

    Raises:
        OSError: It is no DRM node.
    """
    texts = [array("B", bytes(_ROOM_BYTES)) for _ in range(3)]
    pointers = [number for text in texts for number in (_ROOM_BYTES, text.buffer_info()[0])]
    data = bytearray(LAYOUT.pack(0, 0, 0, *pointers))
    ioctl(fd, version_request(), data)
    major, minor, patch, *fields = LAYOUT.unpack(data)
    # The lengths are those of the driver's texts, which may exceed the room.
    name, date, description = (
        text.tobytes()[:length].decode("utf-8", "replace")
        for text, length in zip(texts, fields[::2], strict=True)
    )
    return DrmVersion(name=name, version=(major, minor, patch), date=date, description=description)


def query_node(node: Path) -> DrmVersion | None:
    """What the driver of `node` says, or None if it cannot be asked."""
    try:
        fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return query(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
