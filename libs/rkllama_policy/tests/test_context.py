"""Which loaded context does for a job."""

from __future__ import annotations

import pytest
from rkllama_policy.context import context_fits

from libs.rkllama_policy.tests.building import resident


@pytest.mark.parametrize(
    ("num_ctx", "loaded_with", "context_length", "fits"),
    [
        (None, None, 2048, True),  # the default, of a model that was trained for less
        (None, 8192, 8192, True),
        (None, 512, 512, False),
        (None, 8192, 2048, True),
        (512, 512, 512, True),
        (8192, 8192, 2048, True),  # what it was trained for is all there is
        (2048, 8192, 2048, True),
        (512, None, 4096, False),
        (8192, None, 4096, False),
        (8192, 8192, 0, True),  # it is loading
        (None, None, 0, True),
    ],
)
def test_which_context_does_for_a_job(
    num_ctx: int | None, loaded_with: int | None, context_length: int, *, fits: bool
) -> None:
    held = resident(num_ctx=loaded_with, context_length=context_length)
    assert context_fits(num_ctx, held) is fits
