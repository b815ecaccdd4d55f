"""What each role may say and hear: the whole lists, for they are what a broker is given."""

from __future__ import annotations

import pytest
from rkllama_protocol.names import InvalidNameError
from rkllama_protocol.permissions import inbox_prefix, permissions
from rkllama_protocol.subjects import ANY, Role, Subjects


def lists(role: Role, process_id: str, *, user: str) -> tuple[set[str], set[str]]:
    found = permissions(role, process_id, user=user, subjects=Subjects("p"))
    return set(found.publish), set(found.subscribe)


def test_a_worker_speaks_under_its_own_name_and_hears_what_is_offered() -> None:
    says, hears = lists("worker", "w1", user="u")

    assert says == {
        "p.gateway.*.w1.claim",
        "p.gateway.*.w1.body",
        "p.gateway.*.w1.lease",
        "p.gateway.*.w1.finished",
        "p.reply.*.w1.*.*",
        "p.beats.worker.w1",
    }
    assert hears == {
        "_INBOX.u.>",
        "p.offers.*.*",
        "p.taken",
        "p.worker.w1.cancel",
        "p.worker.w1.replay",
        "p.worker.w1.keep",
        "p.worker.w1.unload",
        "p.worker.w1.drain",
        "p.worker.w1.status",
        "p.beats.worker.*",
        "p.beats.store.*",
    }


def test_a_gateway_neither_works_nor_stores() -> None:
    says, hears = lists("gateway", ANY, user="g")

    assert says == {
        "p.offers.resume.*",
        "p.offers.interactive.*",
        "p.offers.batch.*",
        "p.taken",
        *(f"p.worker.*.{v}" for v in ("cancel", "replay", "keep", "unload", "drain", "status")),
        *(f"p.store.{v}" for v in ("resolve", "tags", "show", "copy", "delete")),
        *(f"p.store.{v}" for v in ("create", "pull", "verify", "cancel")),
        "p.beats.gateway.*",
    }
    assert hears == {
        "_INBOX.g.>",
        *(f"p.gateway.*.*.{v}" for v in ("claim", "body", "lease", "finished")),
        "p.reply.*.*.*.*",
        *(f"p.beats.{role}.*" for role in ("gateway", "worker", "store")),
        "p.events.model.*",
        "p.progress.*",
    }


def test_a_store_answers_and_asks_nobody() -> None:
    says, hears = lists("store", "s1", user="s")

    assert says == {
        "p.progress.*",
        "p.events.model.created",
        "p.events.model.deleted",
        "p.beats.store.s1",
    }
    assert hears == {
        "_INBOX.s.>",
        *(f"p.store.{v}" for v in ("resolve", "tags", "show", "copy", "delete")),
        *(f"p.store.{v}" for v in ("create", "pull", "verify", "cancel")),
    }


@pytest.mark.parametrize("text", ["a.b", "*", ">", "", "a b"])
def test_no_user_has_an_inbox_that_holds_anothers(text: str) -> None:
    with pytest.raises(InvalidNameError):
        inbox_prefix(text)


@pytest.mark.parametrize("text", ["a.b", ">", "", "w1.*"])
def test_no_worker_id_names_more_than_one_worker(text: str) -> None:
    with pytest.raises(InvalidNameError):
        permissions("worker", text, user="u")
