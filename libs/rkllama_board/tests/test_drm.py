"""DRM_IOCTL_VERSION: the structure, and a driver's answer through it."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from rkllama_board import drm


class CDrmVersion(ctypes.Structure):
    """`struct drm_version` as a C compiler lays it out."""

    _fields_ = (
        ("version_major", ctypes.c_int),
        ("version_minor", ctypes.c_int),
        ("version_patchlevel", ctypes.c_int),
        ("name_len", ctypes.c_size_t),
        ("name", ctypes.c_void_p),
        ("date_len", ctypes.c_size_t),
        ("date", ctypes.c_void_p),
        ("desc_len", ctypes.c_size_t),
        ("desc", ctypes.c_void_p),
    )


def driver(name: bytes, date: bytes, description: bytes) -> drm.Ioctl:
    """A kernel driver 0.9.8: writes what fits into the caller's rooms, and says the true lengths."""

    def ioctl(fd: int, request: int, data: bytearray) -> int:
        assert fd == 7
        assert request == drm.version_request()
        asked = CDrmVersion.from_buffer(data)
        asked.version_major, asked.version_minor, asked.version_patchlevel = 0, 9, 8
        for field, text in (("name", name), ("date", date), ("desc", description)):
            room = min(getattr(asked, f"{field}_len"), len(text))
            ctypes.memmove(getattr(asked, field), text, room)
            setattr(asked, f"{field}_len", len(text))
        return 0

    return ioctl


def test_the_request_is_the_kernels_number() -> None:
    """0xc0406400 as strace shows it on 64-bit machines, 0xc0246400 on 32-bit ones."""
    assert drm.version_request(64) == 0xC0406400
    assert drm.version_request(36) == 0xC0246400
    assert drm.LAYOUT.size == ctypes.sizeof(CDrmVersion)
    assert drm.LAYOUT.size == {8: 64, 4: 36}[struct.calcsize("P")]


def test_the_driver_and_its_version_are_read() -> None:
    answer = drm.query(7, ioctl=driver(b"rknpu", b"20240828", b"RKNPU driver"))

    assert answer == drm.DrmVersion(
        name="rknpu", version=(0, 9, 8), date="20240828", description="RKNPU driver"
    )


def test_a_text_longer_than_its_room_is_cut() -> None:
    answer = drm.query(7, ioctl=driver(b"rknpu", b"", b"x" * 500))

    assert answer.description == "x" * 64


@pytest.mark.parametrize("name", ["plain", "missing"])
def test_what_is_no_drm_node_answers_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain").touch()

    assert drm.query_node(tmp_path / name) is None
