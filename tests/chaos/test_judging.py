"""The judge of chaos finds what it is there to find."""

from __future__ import annotations

import json

import pytest

from tests.chaos.judging import Expected, Outcome, judge

WANT = Expected(text="abc", tokens=3, reason="stop")


def said(text: str) -> str:
    return json.dumps({"message": {"content": text}, "done": False})


def end(tokens: int = 3, reason: str = "stop") -> str:
    record = {"message": {"content": ""}, "done": True, "eval_count": tokens, "done_reason": reason}
    return json.dumps(record)


ERROR = json.dumps({"error": "gone"})


@pytest.mark.parametrize(
    ("lines", "flags", "outcome"),
    [
        ([said("a"), said("bc"), end()], "", Outcome.ANSWERED),
        ([said("a"), said("c"), end(2)], "", Outcome.WRONG),
        ([said("ab"), said("bc"), end(4)], "", Outcome.WRONG),
        ([said("a"), said("bc"), end(4)], "", Outcome.WRONG),
        ([said("a"), said("bc"), end(3, "length")], "", Outcome.WRONG),
        ([said("abc"), end(), end()], "", Outcome.WRONG),
        ([said("abc")], "", Outcome.WRONG),
        ([said("ab"), ERROR], "", Outcome.FAILED),
        ([said("x"), ERROR], "", Outcome.WRONG),
        ([said("ab"), ERROR, end()], "", Outcome.WRONG),
        ([ERROR, ERROR], "", Outcome.WRONG),
        ([said("ab")], "left", Outcome.LEFT),
        ([said("b")], "left", Outcome.WRONG),
        ([said("ab")], "broken", Outcome.WRONG),
        ([said("ab")], "broken gateway_killed", Outcome.GATEWAY_GONE),
        ([said("abc"), end()], "broken gateway_killed", Outcome.WRONG),
        (["{"], "", Outcome.WRONG),
    ],
)
def test_the_judgement_of_a_stream(lines: list[str], flags: str, outcome: Outcome) -> None:
    names = ("left", "broken", "gateway_killed")
    verdict = judge(lines, WANT, **{name: name in flags for name in names})

    assert verdict.outcome is outcome
    assert bool(verdict.why) is (outcome in (Outcome.WRONG, Outcome.FAILED))
