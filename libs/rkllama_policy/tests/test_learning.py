"""What a board learns of a model's speed."""

from __future__ import annotations

import pytest
from rkllama_policy.learning import Measured, learned
from rkllama_protocol.messages import Speed

NEW = Speed(model=f"sha256:{'a' * 64}")


def test_the_first_run_is_taken_as_it_is() -> None:
    run = Measured(
        load_s=2.0,
        restore_s=0.2,
        computed_tokens=100,
        prefill_s=1.0,
        generated_tokens=50,
        decode_s=5.0,
    )

    assert learned(NEW, run) == Speed(
        model=NEW.model,
        load_s=2.0,
        restore_s=0.2,
        prefill_s_per_token=0.01,
        decode_s_per_token=0.1,
        tokens_per_answer=50,
    )


def test_later_runs_are_blended_in() -> None:
    speed = learned(learned(NEW, Measured(load_s=2.0)), Measured(load_s=4.0))

    assert speed.load_s == pytest.approx(2.6)


def test_what_was_not_measured_stays() -> None:
    speed = learned(NEW, Measured(computed_tokens=100, prefill_s=1.0))

    assert learned(speed, Measured()) == speed


@pytest.mark.parametrize(("tokens", "learns"), [(7, False), (8, True)])
def test_a_prefill_of_few_tokens_teaches_nothing(tokens: int, learns: bool) -> None:
    speed = learned(NEW, Measured(computed_tokens=tokens, prefill_s=1.0))

    assert (speed.prefill_s_per_token is not None) == learns
