"""What this process has printed: vendor libraries print what they do not return.

The worker gives an engine a file as standard output and error, not a pipe: so what was printed just
before a crash is never lost, and the engine can read its own words.
"""

from __future__ import annotations

import os

STDOUT = 1
KEPT_BYTES = 256 * 1024


class Output:
    """Standard output and error of this process, if they are one regular file."""

    def mark(self) -> int:
        """Where the output stands now."""
        return os.fstat(STDOUT).st_size

    def since(self, mark: int) -> str:
        """What was printed since `mark`; empty where the output is no file of our own."""
        size = self.mark() - mark
        if size <= 0:
            return ""
        try:
            return os.pread(STDOUT, size, mark).decode(errors="replace")
        except OSError:
            return ""

    def trim(self) -> None:
        """Start the file again if it has grown large. Writers append, so none leaves a hole."""
        if self.mark() > KEPT_BYTES:
            os.ftruncate(STDOUT, 0)
