"""Runs that end a process, or never end."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from rkllama_protocol.messages import Job
from rkllama_worker.engine.channel import ClosedError

if TYPE_CHECKING:
    from conftest import Emulate, Emulated, Family

MakeJob = Callable[..., Job]


def until_closed(model: Emulated) -> list[int]:
    """The ids that still come."""
    ids: list[int] = []
    try:
        while True:
            ids += model.engine.chunk()[1].ids
    except ClosedError:
        return ids


def test_a_crash_ends_the_process_behind_what_came_before_it(
    emulate: Emulate, family: Family, raw: MakeJob
) -> None:
    """Half of the families crash as GGML_ASSERT does, half by a bad pointer.

    What this model, which never waits, made in the last instant may die with it; it is made again elsewhere.
    """
    fault = {"abi-1.2.0": "segfault", "abi-1.3.0": "segfault"}.get(family.id, "abort")
    model = emulate(family.library, fault=fault, fault_after=5, fault_when="FAIL")
    model.load()
    healthy = model.ask(raw("well", num_predict=3))

    model.begin(raw("FAIL"))
    ids = until_closed(model)

    assert healthy.ids == model.twin("well", 3)
    assert ids == model.twin("FAIL", 5)[: len(ids)]
    died_of = {"abort": signal.SIGABRT, "segfault": signal.SIGSEGV}[fault]
    assert model.engine.process.wait() == -died_of
    assert ("GGML_ASSERT" in model.engine.output) is (fault == "abort")


def test_a_run_that_hangs_heeds_no_abort_but_the_process_can_be_ended(
    emulate: Emulate, family: Family, raw: MakeJob
) -> None:
    model = emulate(family.library, fault="hang", fault_after=2, fault_when="FAIL")
    model.load()
    aborts = len(model.trace("abort"))
    run = model.begin(raw("FAIL"))
    ids: list[int] = []
    while len(ids) < 2:
        ids += model.engine.chunk()[1].ids

    model.engine.abort(run)
    model.wait_for("abort", aborts + 1)

    assert select.select([model.engine.socket], [], [], 0.05) == ([], [], [])
    assert model.engine.close() == 0
