"""What a board says of a model it holds, is loading, or is letting go."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import pytest
from rkllama_protocol.messages import ModelDetails, ResolvedModel
from rkllama_worker.residency import Resident

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
