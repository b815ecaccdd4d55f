"""What this process has printed: vendor libraries print what they do not return.

The worker gives an engine a file as standard output and error, not a pipe: so what was printed just
before a crash is never lost, and the engine can read its own words.
"""

from __future__ import annotations

import ctypes as c
import os
from pathlib import Path

STDOUT = 1
KEPT_BYTES = 256 * 1024
_NAMELESS = "/memfd:"
_LINE_BUFFERED = 1
"""_IOLBF of stdio.h, in glibc and musl."""


class Output:
    """Standard output and error of this process, if they are a nameless file: anything else has readers."""

    def __init__(self) -> None:
        self._ours = str(Path(f"/proc/self/fd/{STDOUT}").readlink()).startswith(_NAMELESS)
        # Into a file C prints 4 KiB at a time: a reason would come late, and a crash would take it along.
        libc = c.CDLL(None)
        libc.setvbuf.argtypes = [c.c_void_p, c.c_char_p, c.c_int, c.c_size_t]
        libc.setvbuf(c.c_void_p.in_dll(libc, "stdout"), None, _LINE_BUFFERED, 0)

    def mark(self) -> int:
        """Where the output stands now."""
        return os.fstat(STDOUT).st_size if self._ours else 0

    def since(self, mark: int) -> str:
        """What was printed since `mark`; empty where the output is no file of our own."""
        if not self._ours:
            return ""
        return os.pread(STDOUT, self.mark() - mark, mark).decode(errors="replace")

    def trim(self) -> None:
        """Start the file again if it has grown large. Writers append, so none leaves a hole."""
        if self.mark() > KEPT_BYTES:
            os.ftruncate(STDOUT, 0)
