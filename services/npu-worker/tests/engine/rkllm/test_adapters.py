"""LoRA adapters on the NPU runtime: loaded once, named in every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rkllama_protocol.messages import Fault, Job
from rkllama_worker.engine.wire import Kind

if TYPE_CHECKING:
    from conftest import Emulate, Family

MakeJob = Callable[..., Job]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "style.rkllm"
    path.write_bytes(b"an adapter")
    return path


def test_the_adapter_reaches_the_library_and_every_run(
    emulate: Emulate, family: Family, raw: MakeJob, adapter: Path
) -> None:
    model = emulate(family.library, answer_tokens=30)
    assert model.load(adapters=(str(adapter),)).kind is Kind.READY

    answers = [model.ask(raw("Hello")).ids for _ in range(2)]

    (loaded,) = model.trace("load_lora")
    assert (loaded["path"], loaded["scale"], loaded["status"]) == (str(adapter), 1, 0)
    assert {run["lora"] for run in model.trace("run")} == {loaded["name"]}
    # The emulated adapter changes what is said.
    assert answers[0] == answers[1] != model.twin("Hello")


def test_without_one_no_run_names_any(emulate: Emulate, newest: Path, raw: MakeJob) -> None:
    model = emulate(newest, answer_tokens=30)
    model.load()

    assert model.ask(raw("Hello")).ids == model.twin("Hello")
    assert [run["lora"] for run in model.trace("run")] == [None]


def test_an_adapter_that_does_not_load_fails_the_load(
    emulate: Emulate, newest: Path, tmp_path: Path
) -> None:
    frame = emulate(newest).load(adapters=(str(tmp_path / "gone.rkllm"),))

    fault = Fault.model_validate_json(frame.payload)
    assert (frame.kind, fault.code) == (Kind.FAILED, "invalid_model")
    assert "cannot use the adapter gone.rkllm" in fault.message


def test_several_adapters_are_refused(emulate: Emulate, newest: Path, adapter: Path) -> None:
    frame = emulate(newest).load(adapters=(str(adapter), str(adapter)))

    fault = Fault.model_validate_json(frame.payload)
    assert (frame.kind, fault.code) == (Kind.FAILED, "unsupported")
    assert "one LoRA adapter" in fault.message
