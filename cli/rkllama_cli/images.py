"""Paths of images in a prompt: found as people type them, or as a terminal drops them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

from rkllama_cli.errors import CliError

_ENDING = r"\.(?:png|jpe?g|webp|bmp|gif)"
# In quotes, or a word in which a backslash keeps a blank.
_PATH = re.compile(
    rf"""'(?P<single>[^'\n]+{_ENDING})'|"(?P<double>[^"\n]+{_ENDING})"|(?P<bare>(?:\\.|[^\s\\'"])+{_ENDING})(?=$|[\s,;:!?)]|\.(?:\s|$))""",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"\\(.)")


def find(prompt: str, *, exists: Callable[[Path], bool]) -> tuple[str, tuple[Path, ...]]:
    """The prompt without the paths of images that exist, and these paths."""
    paths: list[Path] = []

    def taken(match: re.Match[str]) -> str:
        text = match["single"] or match["double"] or _ESCAPED.sub(r"\1", match["bare"])
        path = Path(text.removeprefix("file://")).expanduser()
        if not exists(path):
            return match[0]
        paths.append(path)
        return ""

    rest = _PATH.sub(taken, prompt)
    if not paths:
        return prompt, ()
    return re.sub(r" {2,}", " ", rest).strip(), tuple(paths)


def read(path: Path) -> str:
    """An image as the API wants it.

    Raises:
        CliError: It cannot be read.
    """
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise CliError(f"cannot read the image {path}: {error.strerror}") from error
