"""The grammar of subjects (ADR 0002)."""

from __future__ import annotations

import pytest
from rkllama_protocol.lifecycle import InvalidTransitionError, JobEvent, JobState, step
from rkllama_protocol.names import Digest, InvalidNameError
from rkllama_protocol.subjects import (
    ANY,
    GatewayVerb,
    JobClass,
    ModelEvent,
    StoreVerb,
    Subjects,
    WorkerVerb,
)

S = Subjects("p")


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (S.offer(JobClass.RESUME, Digest("ab" * 32)), "p.offers.resume.abababababababab"),
        (S.offers, "p.offers.*.*"),
        (S.taken, "p.taken"),
        (S.gateway("g", "w", GatewayVerb.CLAIM), "p.gateway.g.w.claim"),
        (S.gateway("g", ANY, GatewayVerb.CLAIM), "p.gateway.g.*.claim"),
        (S.reply("g", "w", "j", 2), "p.reply.g.w.j.2"),
        (S.replies("g"), "p.reply.g.*.*.*"),
        (S.replies(ANY, "w"), "p.reply.*.w.*.*"),
        (S.worker("w", WorkerVerb.CANCEL), "p.worker.w.cancel"),
        (S.store(StoreVerb.PULL), "p.store.pull"),
        (S.progress("x"), "p.progress.x"),
        (S.event(ModelEvent.DELETED), "p.events.model.deleted"),
        (S.events, "p.events.model.*"),
        (S.beat("worker", "w"), "p.beats.worker.w"),
        (S.beats("store"), "p.beats.store.*"),
        (S.beats(), "p.beats.*.*"),
    ],
)
def test_subjects_are_spelt_here_only(subject: str, text: str) -> None:
    assert subject == text


def test_a_subject_names_who_speaks() -> None:
    assert S.parse_reply(S.reply("g", "w", "job-1", 3)) == ("w", "job-1", 3)
    assert S.parse_asker(S.gateway("g", "w", GatewayVerb.LEASE)) == "w"
    assert S.parse_beat(S.beat("worker", "w")) == "w"


def test_an_id_cannot_reach_another_subject() -> None:
    with pytest.raises(InvalidNameError):
        S.worker("w.cancel", WorkerVerb.CANCEL)
    with pytest.raises(InvalidNameError):
        Subjects("a.*")


def test_an_ended_job_stays_ended() -> None:
    for event in JobEvent:
        with pytest.raises(InvalidTransitionError):
            step(JobState.ENDED, event)


def test_the_life_of_an_ordinary_job() -> None:
    state = JobState.WAITING
    for event in (JobEvent.CLAIM, JobEvent.LEASE, JobEvent.LEASE, JobEvent.TERMINAL_CHUNK):
        state = step(state, event)

    assert state is JobState.ENDED
