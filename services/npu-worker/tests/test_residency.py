"""What a board says of a model it holds, is loading, or is letting go."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import pytest
from rkllama_protocol.messages import ModelDetails, ResolvedModel
from rkllama_worker.residency import Resident, context_fits

MODEL = ResolvedModel(
    name="m:latest",
    full_name="registry.ollama.ai/library/m:latest",
    digest=f"sha256:{'a' * 64}",
    size=1,
    modified_at="2026-01-01T00:00:00Z",
    details=ModelDetails(format="rkllm"),
)
LONG_PAST, FAR_OFF = -1e9, 1e9


def held(**facts: Any) -> Resident:
    return Resident(**{"model": MODEL, "size": 1, "keep_alive_s": 300.0, "state": "ready", **facts})


@pytest.mark.parametrize(
    "facts",
    [
        {"state": "loading"},
        {"runs": 1},
        {"runs": 1, "expires_at": LONG_PAST},
        {"runs": 2, "expires_at": FAR_OFF},
    ],
)
def test_the_keep_alive_of_a_model_that_loads_or_runs_has_not_begun(facts: Any) -> None:
    assert held(**facts).as_message().expires_in_s == 300


@pytest.mark.parametrize(
    "facts",
    [
        {"state": "loading"},
        {"runs": 1},
        # It was to be kept for a while, and now runs for somebody who wants it kept for ever.
        {"runs": 1, "expires_at": LONG_PAST},
        {"expires_at": math.inf},
    ],
)
def test_a_model_that_is_kept_for_ever_says_so_at_any_time(facts: Any) -> None:
    assert held(keep_alive_s=-1.0, **facts).as_message().expires_in_s is None


def test_an_idle_model_tells_what_is_left() -> None:
    before = monotonic()
    told = held(expires_at=before + 1000).as_message().expires_in_s

    assert told is not None
    assert before + 1000 - monotonic() <= told <= 1000
    assert held(expires_at=LONG_PAST).as_message().expires_in_s == 0


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
    ],
)
def test_which_context_does_for_a_job(
    num_ctx: int | None, loaded_with: int | None, context_length: int, *, fits: bool
) -> None:
    assert context_fits(num_ctx, loaded_with=loaded_with, context_length=context_length) is fits
