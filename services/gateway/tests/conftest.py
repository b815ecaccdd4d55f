"""A stage for tests that speak HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from services.gateway.tests.harness import Stage, staged

Staged = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def stage(nats_url: str, prefix: str) -> Staged:
    """Sets a stage of its own: `async with stage(workers=2, max_waiting=1) as on:`."""
    return partial(staged, nats_url, prefix)
