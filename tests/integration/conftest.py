"""Stacks with the real small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.stack import Stack, prepared

MODEL = "smollm2:135m"


@pytest.fixture(scope="session")
def stack(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one worker that all tests share who break nothing."""
    with Stack(prepared(models, tmp_path_factory.mktemp("stack"))) as running:
        yield running


@pytest.fixture
def own_stack(models: Path, tmp_path: Path) -> Iterator[Stack]:
    """A stack with one worker that a test may break."""
    with Stack(prepared(models, tmp_path)) as running:
        yield running


@pytest.fixture
def two_workers(models: Path, tmp_path: Path) -> Iterator[Stack]:
    """A stack with two workers."""
    with Stack(prepared(models, tmp_path), workers=2) as running:
        yield running


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    """An HTTP client that waits as long as the test's own time allows."""
    with httpx2.Client(timeout=None, trust_env=False) as client:
        yield client
