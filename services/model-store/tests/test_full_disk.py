"""A disk that is full: said so, and nothing left of what did not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rkllama_store.folder import owned

from . import disk

pytestmark = pytest.mark.system


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A store on a file system of one mebibyte."""
    with disk.small(tmp_path / "disk", mebibytes=1) as here, owned(here / "models"):
        yield here / "models"


async def test_an_upload_that_does_not_fit(client: Any) -> None:
    answer = await client.http.post("/blobs/sha256:" + "0" * 64, content=bytes(3 * 2**20))

    assert (answer.status_code, answer.json()) == (507, {"error": "no space left on device"})
    assert client.incoming() == client.blob_files() == set()


async def test_a_pull_that_does_not_fit(client: Any) -> None:
    records = await client.pull("smollm2:135m")

    assert records[-1].error.code == "storage"
    assert records[-1].error.message == "no space left on device"
    assert client.incoming() == client.blob_files() == set()


async def test_what_fits_is_taken_afterwards(client: Any) -> None:
    await client.http.post("/blobs/sha256:" + "0" * 64, content=bytes(3 * 2**20))

    assert await client.upload(b"hello")
