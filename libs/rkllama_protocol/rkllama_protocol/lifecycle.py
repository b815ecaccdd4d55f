"""The life of a job, as a table: the only place that says which change of state is allowed.

    waiting --claim--> granted --lease--> running --terminal chunk--> ended
       ^                  |                  |
       +---- no lease ----+--- attempt lost -+     (the next attempt)

An attempt is lost with its lease, with its engine, or when a board that drains hands it over. A client
that leaves, and a failure, end a job from any state.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    GRANTED = "granted"
    RUNNING = "running"
    ENDED = "ended"


class JobEvent(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    LEASE = "lease"
    ATTEMPT_LOST = "attempt_lost"
    TERMINAL_CHUNK = "terminal_chunk"
    CANCEL = "cancel"
    FAIL = "fail"


_TABLE: dict[tuple[JobState, JobEvent], JobState] = {
    (JobState.WAITING, JobEvent.CLAIM): JobState.GRANTED,
    (JobState.WAITING, JobEvent.CANCEL): JobState.ENDED,
    (JobState.WAITING, JobEvent.FAIL): JobState.ENDED,
    (JobState.GRANTED, JobEvent.LEASE): JobState.RUNNING,
    (JobState.GRANTED, JobEvent.ATTEMPT_LOST): JobState.WAITING,
    # The first chunk can overtake the first lease: they travel on different subjects.
    (JobState.GRANTED, JobEvent.TERMINAL_CHUNK): JobState.ENDED,
    (JobState.GRANTED, JobEvent.CANCEL): JobState.ENDED,
    (JobState.GRANTED, JobEvent.FAIL): JobState.ENDED,
    (JobState.RUNNING, JobEvent.LEASE): JobState.RUNNING,
    (JobState.RUNNING, JobEvent.ATTEMPT_LOST): JobState.WAITING,
    (JobState.RUNNING, JobEvent.TERMINAL_CHUNK): JobState.ENDED,
    (JobState.RUNNING, JobEvent.CANCEL): JobState.ENDED,
    (JobState.RUNNING, JobEvent.FAIL): JobState.ENDED,
}


class InvalidTransitionError(Exception):
    """The event cannot happen in this state: a bug, not bad input."""


def step(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`.

    Raises:
        InvalidTransitionError: The table has no such row.
    """
    try:
        return _TABLE[state, event]
    except KeyError:
        raise InvalidTransitionError(f"{event} cannot happen to a {state} job") from None
