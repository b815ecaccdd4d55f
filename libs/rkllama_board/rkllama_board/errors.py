"""Errors of the board.

    BoardError
      NodeUnusableError   the NPU's device node cannot be opened
      NodeBusyError       another process drives this NPU

The text of each is one sentence for the person who runs the board.
"""

from __future__ import annotations

from pathlib import Path


class BoardError(Exception):
    """Base of this package's errors."""


class NodeUnusableError(BoardError):
    """The device node is missing, or this process may not open it."""

    def __init__(self, message: str, *, node: Path) -> None:
        super().__init__(message)
        self.node = node


class NodeBusyError(BoardError):
    """Another process, or an engine that outlived its worker, holds the device node."""

    def __init__(self, message: str, *, node: Path, holders: tuple[int, ...]) -> None:
        super().__init__(message)
        self.node = node
        self.holders = holders
        """Process ids, as far as they can be seen."""
