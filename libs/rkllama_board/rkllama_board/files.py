"""Reading what the kernel shows: device trees, sysfs and debugfs may be hidden, missing or forbidden."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """The text of a file, or empty."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def exists(path: Path) -> bool:
    """Like `Path.exists`, which raises where a folder on the way is forbidden."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def read_number(path: Path) -> int | None:
    """The number in a file; None if there is none, or no file."""
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None


def link_name(path: Path) -> str:
    """The name of what a link leads to, or empty."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def numbered(folder: Path, pattern: str) -> list[Path]:
    """The entries in the order of their numbers: renderD9 before renderD128."""
    try:
        found = list(folder.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))
