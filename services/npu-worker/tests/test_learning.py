"""What a board learns of a model's speed."""

from __future__ import annotations

import pytest
from rkllama_protocol.messages import Speed
from rkllama_worker.engine.wire import RunEnded
from rkllama_worker.learning import learned

NEW = Speed(model=f"sha256:{'a' * 64}")
SECOND_NS = 1_000_000_000


def ended(**changes: int | bool) -> RunEnded:
    values = {
        "last_seq": 9,
        "prompt_tokens": 100,
        "generated_tokens": 50,
        "prefill_ns": SECOND_NS,
        "decode_ns": 5 * SECOND_NS,
    }
    return RunEnded.model_validate(values | changes)


def test_the_first_run_is_taken_as_it_is() -> None:
    speed = learned(NEW, load_s=2.0, ended=ended())

    assert speed == Speed(
        model=NEW.model,
        load_s=2.0,
        prefill_s_per_token=0.01,
        decode_s_per_token=0.1,
        tokens_per_answer=50,
    )


def test_later_runs_are_blended_in() -> None:
    speed = learned(learned(NEW, load_s=2.0, ended=None), load_s=4.0, ended=None)

    assert speed.load_s == pytest.approx(2.6)


def test_reused_tokens_cost_no_prefill() -> None:
    speed = learned(NEW, load_s=None, ended=ended(reused_tokens=50))

    assert speed.prefill_s_per_token == pytest.approx(0.02)


@pytest.mark.parametrize(
    "run", [ended(reused_tokens=95), ended(prompt_tokens=3)], ids=["reused", "short"]
)
def test_a_prefill_of_few_tokens_teaches_nothing(run: RunEnded) -> None:
    assert learned(NEW, load_s=None, ended=run).prefill_s_per_token is None


def test_an_aborted_run_teaches_no_answer_length() -> None:
    assert learned(NEW, load_s=None, ended=ended(aborted=True)).tokens_per_answer is None
