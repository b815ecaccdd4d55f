"""`python -m rkllm_bindings.vendor 1.3.0 FOLDER`: the vendor's library from its tagged source, verified.

What comes is kept only if its git blob id is the one that the release tag has (`_releases.py`), so
where it came from need not be trusted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from rkllm_bindings._identify import git_blob_id
from rkllm_bindings._releases import OFFICIAL_BLOBS

BUILD = "linux_aarch64"
SOURCE = (
    "https://github.com/airockchip/rknn-llm/raw/release-v{version}"
    "/rkllm-runtime/Linux/librkllm_api/aarch64/librkllmrt.so"
)
"""Where a release tag has it; `{version}` is replaced."""
NAME = "librkllmrt.so"
TIMEOUT_S = 60.0
MOST_BYTES = 256 * 2**20


class VendorError(Exception):
    """The library cannot be had; the text is one sentence for a person."""


def blob_of(version: str, blobs: Mapping[str, tuple[str, str]] = OFFICIAL_BLOBS) -> str:
    """The git blob id of the library of a release.

    Raises:
        VendorError: No such release is known.
    """
    for blob, (known, build) in blobs.items():
        if (known, build) == (version, BUILD):
            return blob
    known_versions = ", ".join(known for known, build in blobs.values() if build == BUILD)
    raise VendorError(f"the release {version!r} is not known here; {known_versions} are")


def fetch(version: str, folder: Path, *, source: str = SOURCE, blob: str | None = None) -> Path:
    """Bring the library into `folder`; where it is now.

    Args:
        version: Of the release, such as `1.3.0`.
        folder: Made if it is not there.
        source: URL, in which `{version}` is replaced.
        blob: The git blob id that the file must have; that of the release if none is given.

    Raises:
        VendorError: It does not come, or is another file.
    """
    expected = blob or blob_of(version)
    url = source.format(version=version)
    if not url.startswith(("https://", "http://")):
        raise VendorError(f"{url} is no address that begins with https:// or http://")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
            data = cast("bytes", answer.read(MOST_BYTES + 1))
    except OSError as error:
        raise VendorError(f"{url} does not come: {error}") from error
    found = git_blob_id(data)
    if found != expected:
        raise VendorError(
            f"{url} is not the library of release {version}: its git blob id is {found}, not {expected}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary = Path(file.name)
    temporary.chmod(0o644)
    temporary.replace(path)
    return path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rkllm_bindings.vendor", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default=SOURCE, help="another URL, {version} is replaced")
    parser.add_argument("--blob", help="git blob id of a build that is no release")
    given = parser.parse_args()
    try:
        path = fetch(given.version, given.folder, source=given.source, blob=given.blob or None)
    except VendorError as error:
        sys.stderr.write(f"rkllm: {error}\n")
        raise SystemExit(1) from error
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
