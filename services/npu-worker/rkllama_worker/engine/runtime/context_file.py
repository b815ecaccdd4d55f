"""The file of a context of llama.cpp.

    magic | how many numbers (u64) | bytes of the state (u64) | CRC-32 of the rest (u32) | numbers (i32) | state

llama.cpp has files of its own, and aborts the process that reads one that was cut off (GGML_ASSERT in
`llama_context::state_seq_load_file`): so this one is checked before any of it is given to the library.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

MAGIC = b"rkctx\x00\x00\x01"
_HEAD = struct.Struct("<8sQQI")
_NUMBER = np.dtype("<i4")

Numbers = npt.NDArray[np.int32]
State = npt.NDArray[np.uint8]


def write(path: Path, numbers: Numbers, state: State) -> bool:
    """Write them; False if the disk refuses."""
    listed = np.ascontiguousarray(numbers, _NUMBER)
    check = crc32(state.data, crc32(listed.data))
    try:
        with path.open("wb") as file:
            file.write(_HEAD.pack(MAGIC, len(listed), state.nbytes, check))
            file.write(listed.data)
            file.write(state.data)
    except OSError as error:
        log.warning("context not saved", extra={"reason": error.strerror})
        return False
    return True


def read(path: Path) -> tuple[Numbers, State] | None:
    """What was written; None if that is not, or no longer, what the file holds."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        log.warning("saved context is gone", extra={"reason": error.strerror})
        return None
    if content.nbytes < _HEAD.size:
        return None
    magic, count, size, check = _HEAD.unpack(content[: _HEAD.size].tobytes())
    rest = content[_HEAD.size :]
    if magic != MAGIC or rest.nbytes != count * _NUMBER.itemsize + size:
        return None
    if crc32(rest.data) != check:
        return None
    numbers = rest[: count * _NUMBER.itemsize].view(_NUMBER)
    return numbers.astype(np.int32), rest[count * _NUMBER.itemsize :]
