"""What a stream must have been: a pure judgement of the lines that a client got."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rkllm_bindings.emulator import ModelScript

from tests.emulated import prompt_ids


class Outcome(StrEnum):
    """How a request ended, for its client."""

    ANSWERED = "answered"
    FAILED = "failed visibly"
    REFUSED = "refused"
    LEFT = "left by the client"
    GATEWAY_GONE = "lost with its gateway"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The whole answer."""

    text: str
    tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended, and what was wrong with it, if anything was."""

    outcome: Outcome
    why: str = ""


def expected(script: ModelScript, prompt: str, num_predict: int | None) -> Expected:
    """What the model answers to a chat of one message."""
    ids = prompt_ids(script, prompt)
    whole = script.continuation(ids, 100_000)
    cut = whole if num_predict is None else whole[:num_predict]
    # A cut in the middle of a character shows what is there of it as a replacement character.
    text = script.text(cut).decode(errors="replace")
    bounded = num_predict is not None and num_predict <= len(whole)
    return Expected(text=text, tokens=len(cut), reason="length" if bounded else "stop")


def judge(
    lines: Sequence[str], want: Expected, *, left: bool, broken: bool, gateway_killed: bool
) -> Verdict:
    """Judge the lines of a stream with status 200.

    `left`: the client closed it. `broken`: the connection ended before the response did.
    """
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except ValueError as error:
        return Verdict(Outcome.WRONG, f"not a line of JSON: {error}")
    errors = [record["error"] for record in records if "error" in record]
    ends = [record for record in records if record.get("done")]
    text = "".join(r["message"]["content"] for r in records if "message" in r)
    if not want.text.startswith(text):
        return Verdict(Outcome.WRONG, f"foreign text: {text!r} is no beginning of {want.text!r}")
    if left:
        return Verdict(Outcome.LEFT)
    if broken:
        if gateway_killed and not ends:
            return Verdict(Outcome.GATEWAY_GONE)
        return Verdict(Outcome.WRONG, f"silently cut after {len(lines)} lines")
    if errors:
        if len(errors) > 1 or ends or "error" not in records[-1]:
            return Verdict(Outcome.WRONG, "an error is not the only end")
        return Verdict(Outcome.FAILED, errors[0])
    if len(ends) != 1 or not records[-1].get("done"):
        return Verdict(Outcome.WRONG, f"{len(ends)} terminal records")
    got = (text, ends[0].get("eval_count"), ends[0].get("done_reason"))
    if got != (want.text, want.tokens, want.reason):
        return Verdict(Outcome.WRONG, f"{got} is not {(want.text, want.tokens, want.reason)}")
    return Verdict(Outcome.ANSWERED)
