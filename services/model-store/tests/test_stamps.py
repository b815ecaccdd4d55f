"""A blob that was changed behind the store's back is noticed, and nothing else is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rkllama_protocol.errors import InvalidModelError
from rkllama_protocol.names import Digest, ModelName
from rkllama_store.blobs import Blobs
from rkllama_store.library import Library
from rkllama_store.manifests import Manifest, Manifests

Make = Callable[..., Manifest]
NAME = ModelName(model="m")


@pytest.fixture
def weights(library: Library, manifest_of: Make) -> Digest:
    """Those of a model that is in the store."""
    manifest = manifest_of(b"weights")
    library.publish(NAME, manifest)
    return Digest.parse(manifest.layers[0].digest)


def anew(root: Path) -> Library:
    """The library of a store that is started again."""
    return Library(Blobs(root), Manifests(root))


def overwrite(path: Path, data: bytes) -> None:
    """In place, at another time."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_a_change_of_the_same_size_is_noticed(
    root: Path, library: Library, blobs: Blobs, weights: Digest
) -> None:
    overwrite(blobs.path(weights), b"WEIGHTS")

    for each in (library, anew(root)):
        with pytest.raises(InvalidModelError, match=f"{weights}.*was changed.*pull or create"):
            each.resolve(NAME)
    assert blobs.size(weights) is None


def test_a_blob_that_was_cut_short_is_noticed(
    library: Library, blobs: Blobs, weights: Digest
) -> None:
    blobs.path(weights).write_bytes(b"weigh")

    with pytest.raises(InvalidModelError, match="has 5 bytes instead of 7"):
        library.resolve(NAME)


def test_a_changed_blob_comes_in_anew(
    library: Library, blobs: Blobs, manifest_of: Make, weights: Digest
) -> None:
    overwrite(blobs.path(weights), b"WEIGHTS")
    library.publish(NAME, manifest_of(b"weights"))

    assert library.resolve(NAME).layers[0].digest == str(weights)
    assert blobs.size(weights) == 7


def test_a_store_that_was_copied_to_another_disk_is_whole(
    root: Path, tmp_path: Path, weights: Digest
) -> None:
    """A plain copy changes every time, but also every inode."""
    copied = tmp_path / "copy"
    shutil.copytree(root, copied, copy_function=shutil.copyfile)
    blobs = Blobs(copied)

    assert Library(blobs, Manifests(copied)).resolve(NAME).name == "m:latest"
    assert blobs.size(weights) == 7


def test_stamps_that_cannot_be_read_mean_nothing(root: Path, blobs: Blobs, weights: Digest) -> None:
    (root / "stamps" / weights.file_name).write_text("1 2")
    (root / "stamps" / "noise").write_text("1 2 3")

    assert anew(root).resolve(NAME).name == "m:latest"


def test_a_blob_that_goes_takes_its_stamp_along(
    root: Path, library: Library, weights: Digest
) -> None:
    """The next file may get the same inode."""
    library.delete(NAME)

    assert list((root / "stamps").iterdir()) == []


def test_verifying_finds_what_looks_unchanged(
    root: Path, library: Library, blobs: Blobs, weights: Digest
) -> None:
    """A disk that rots leaves the time as it was."""
    path = blobs.path(weights)
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    unnoticed = library.resolve(NAME)
    reason = blobs.verify(weights, 7, progress=lambda _: None)

    assert unnoticed.name == "m:latest"
    assert reason.startswith("is damaged")
    with pytest.raises(InvalidModelError):
        anew(root).resolve(NAME)


def test_verifying_clears_what_was_only_touched(
    library: Library, blobs: Blobs, weights: Digest
) -> None:
    os.utime(blobs.path(weights), (1, 1))
    before = blobs.size(weights)
    seen: list[int] = []

    assert blobs.verify(weights, 7, progress=seen.append) == ""
    assert (before, blobs.size(weights), seen) == (None, 7, [7])
    assert library.resolve(NAME).name == "m:latest"
