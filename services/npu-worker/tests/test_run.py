"""What a run says of the next one."""

from __future__ import annotations

import pytest
from rkllama_policy.learning import Measured
from rkllama_worker.engine.wire import RunEnded
from rkllama_worker.run import measured

ENDED = RunEnded(
    last_seq=9,
    prompt_tokens=100,
    reused_tokens=40,
    generated_tokens=50,
    prefill_ns=10**9,
    decode_ns=5 * 10**9,
)
WHOLE = Measured(computed_tokens=60, prefill_s=1.0, generated_tokens=50, decode_s=5.0)


@pytest.mark.parametrize(
    ("changes", "generated_tokens", "restore_s"),
    [
        ({}, 50, None),
        ({"aborted": True}, 0, None),
        ({"restored": True, "restore_ns": 10**8}, 50, 0.1),
        ({"restored": False, "restore_ns": 10**8}, 50, None),
    ],
    ids=["whole", "aborted", "restored", "not-restored"],
)
def test_what_was_reused_or_cut_short_teaches_nothing(
    changes: dict[str, object], generated_tokens: int, restore_s: float | None
) -> None:
    run = measured(None, ENDED.model_copy(update=changes))

    assert run.generated_tokens == generated_tokens
    assert run.restore_s == restore_s
    assert (run.computed_tokens, run.prefill_s, run.decode_s) == (60, 1.0, 5.0)


def test_an_engine_that_died_teaches_how_long_it_loaded() -> None:
    assert measured(2.0, None) == Measured(load_s=2.0)
    assert measured(None, ENDED) == WHOLE
