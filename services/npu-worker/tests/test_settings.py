"""What the worker can be told, where a rule is its own."""

from __future__ import annotations

import pytest
from rkllama_service.process import SetupError
from rkllama_service.settings import read
from rkllama_worker.settings import Settings


@pytest.mark.parametrize(
    ("said", "worker_id"),
    [("board-1", "board-1"), ("board-1.lan", "board-1-lan"), ("a.b.c", "a-b-c")],
)
def test_a_board_may_be_named_with_its_domain(
    said: str, worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes' nodes often are; a part of a subject has no dots."""
    monkeypatch.setenv("RKLLAMA_WORKER_WORKER_ID", said)

    settings, _ = read(Settings)

    assert settings.worker_id == worker_id


@pytest.mark.parametrize("said", ["", "board 1", "board/1", "*", "x" * 65])
def test_a_name_that_is_no_part_of_a_subject_is_refused(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RKLLAMA_WORKER_WORKER_ID", said)

    with pytest.raises(SetupError, match="RKLLAMA_WORKER_WORKER_ID"):
        read(Settings)
