"""Loads that fail, each in its own way, and what the worker is told; libraries that nobody knows."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rkllama_protocol.messages import Fault, Job
from rkllama_worker.engine.channel import ClosedError
from rkllama_worker.engine.wire import EngineReady, Kind, RkllmSpec
from rkllm_bindings import OVERRIDE
from rkllm_bindings.emulator import build

if TYPE_CHECKING:
    from conftest import Emulate, Emulated, Family

MakeJob = Callable[..., Job]
FIRST_AND_LAST = ["abi-1.1", "abi-1.3.0"]
"""Where both are known to happen."""


def failure(model: Emulated, **changes: Any) -> Fault:
    """What a load fails with; the process ends."""
    frame = model.load(**changes)
    assert frame.kind is Kind.FAILED
    assert model.engine.process.wait() == 1
    return Fault.model_validate_json(frame.payload)


def ready(model: Emulated, **changes: Any) -> EngineReady:
    frame = model.load(**changes)
    assert frame.kind is Kind.READY
    return EngineReady.model_validate_json(frame.payload)


def test_a_context_is_at_most_the_models_and_a_prompt_leaves_room(
    emulate: Emulate, family: Family, raw: MakeJob
) -> None:
    """The library keeps four positions, and one is for the answer."""
    model = emulate(family.library, context_limit=64)

    loaded = ready(model, num_ctx=1000)
    refused = model.ask(raw("p" * 60, shift=False))
    runs = len(model.trace("run"))
    answer = model.ask(raw("p" * 59))
    longer = model.ask(raw("p" * 30))

    assert loaded.context_length == 64
    assert [line["param"]["max_context_len"] for line in model.trace("init")] == [1000, 64]
    assert (refused.last.error_code, refused.ended.last_seq) == ("prompt_too_long", 0)
    assert runs == (1 if family.id == "abi-1.1" else 0), "a warm-up, but not the prompt"
    assert (answer.ids, answer.last.finish) == (model.twin("p" * 59, 1), "length")
    assert (len(longer.ids), longer.last.finish) == (30, "length")


def test_a_context_is_as_large_as_asked_for(emulate: Emulate, newest: Path) -> None:
    assert ready(emulate(newest), num_ctx=96).context_length == 96


def test_the_smallest_context_still_answers(
    emulate: Emulate, libraries: dict[str, Path], raw: MakeJob
) -> None:
    model = emulate(libraries["abi-1.1"])

    assert ready(model, num_ctx=1).context_length == 8
    assert len(model.ask(raw("a")).ids) == 3


def test_a_load_that_is_refused_says_why(emulate: Emulate, family: Family) -> None:
    """The reason is on the library's output, and nowhere else."""
    fault = failure(emulate(family.library, init_fault="fail"))

    assert fault.code == "invalid_model"
    assert fault.message == (
        "the RKLLM runtime cannot load the model: the NPU has no memory left for the model"
    )


def test_a_model_of_another_soc_is_refused(emulate: Emulate, newest: Path) -> None:
    fault = failure(emulate(newest, target_platform="RK3576"))

    assert (fault.code, "converted for another SoC" in fault.message) == ("invalid_model", True)


def test_a_refusal_without_a_known_reason_names_the_call(emulate: Emulate, newest: Path) -> None:
    fault = failure(emulate(newest, init_fault="fail", log=False))

    assert (fault.code, "rkllm_init returned -1" in fault.message) == ("invalid_model", True)


@pytest.mark.parametrize("family", FIRST_AND_LAST, indirect=True)
def test_a_load_that_crashes_ends_the_process_and_its_last_words_are_kept(
    emulate: Emulate, family: Family
) -> None:
    """rknn-llm#522."""
    model = emulate(family.library, init_fault="segfault")

    with pytest.raises(ClosedError):
        model.load()

    assert model.engine.process.wait() == -signal.SIGSEGV
    assert "rkllm-toolkit version" in model.engine.output


@pytest.mark.parametrize("family", FIRST_AND_LAST, indirect=True)
def test_a_load_that_only_seems_to_succeed(emulate: Emulate, family: Family, raw: MakeJob) -> None:
    """rknn-llm#156, of 1.1: there a first run is part of the load. Elsewhere the run shows it."""
    model = emulate(family.library, init_fault="late_crash")

    if family.id != "abi-1.1":
        assert model.load().kind is Kind.READY
        model.begin(raw("Hello"))
        with pytest.raises(ClosedError):
            model.engine.chunk()
    else:
        with pytest.raises(ClosedError):
            model.load()

    assert model.engine.process.wait() == -signal.SIGSEGV
    assert len(model.trace("run")) == 1


def test_a_warm_up_that_fails_is_a_failed_load(
    emulate: Emulate, libraries: dict[str, Path]
) -> None:
    fault = failure(emulate(libraries["abi-1.1"], fault="error"))

    assert (fault.code, fault.message.partition(":")[0]) == (
        "invalid_model",
        "the model does not run",
    )


@pytest.mark.parametrize("content", [None, b""])
def test_weights_that_are_missing_or_empty(
    emulate: Emulate, newest: Path, tmp_path: Path, content: bytes | None
) -> None:
    weights = tmp_path / "gone.rkllm"
    if content is not None:
        weights.write_bytes(content)

    fault = failure(emulate(newest), weights=str(weights))

    assert (fault.code, "gone.rkllm" in fault.message) == ("invalid_model", True)


# ------------------------------------------------------------------ libraries


@pytest.mark.parametrize(("release", "version"), [("abi-1.1", "1.1.2"), ("abi-1.3.0", "1.3.0")])
def test_a_library_with_the_vendors_marker_runs_any_file(
    emulate: Emulate, tmp_path: Path, raw: MakeJob, release: str, version: str
) -> None:
    """As somebody else might build it: nothing tells it from the vendor's."""
    weights = tmp_path / "any.rkllm"
    weights.write_bytes(b"\x00any weights at all\xff" * 50)
    model = emulate(build(release, tmp_path, vendor_marker=version))

    ready(model, weights=str(weights))
    answers = [model.ask(raw(prompt, num_predict=12)) for prompt in ("one", "two", "one")]

    assert all(0 < len(answer.ids) <= 12 for answer in answers)
    assert all(answer.last.finish in ("length", "stop") for answer in answers)
    assert answers[0].ids == answers[2].ids != answers[1].ids
    assert '"emulator":false' in model.engine.output
    assert f'"family":"{release}"' in model.engine.output


@pytest.fixture
def nameless(newest: Path, tmp_path: Path) -> Path:
    """A library that says nothing of its version."""
    path = tmp_path / "librkllmrt.so"
    marks = (b"RKLLAMA RKLLM EMULATOR", b"rkllm-runtime version")
    content = newest.read_bytes()
    for mark in marks:
        assert mark in content
        content = content.replace(mark, b"-" * len(mark))
    path.write_bytes(content)
    return path


def test_an_unknown_library_is_refused_with_the_way_out(emulate: Emulate, nameless: Path) -> None:
    fault = failure(emulate(nameless))

    assert fault.code == "runtime_failed"
    assert f"set {OVERRIDE} to one of" in fault.message


def test_the_override_loads_an_unknown_library(
    emulate: Emulate, nameless: Path, raw: MakeJob
) -> None:
    model = emulate(nameless)

    ready(model, rkllm=RkllmSpec(library=str(nameless), abi="1.3.0", cpu_mask=0xF0))

    assert model.ask(raw("Hello", num_predict=9)).ids == model.twin("Hello", 9)


def test_a_missing_library_is_named(emulate: Emulate, tmp_path: Path) -> None:
    fault = failure(emulate(tmp_path / "gone.so"))

    assert (fault.code, "gone.so" in fault.message) == ("runtime_failed", True)


# Knows only offsets. Loses userdata, fills in nothing it need not, prints without a flush, and has no
# function to clear its cache: RKLLMInput.token_input at 16, RKLLMResult.text at 0 and token_id at 8.
STRANGER = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
typedef int (*callback_t)(void *, void *, int);
static callback_t callback;
const char *rkllm_about(void) {
    return "RKLLM SDK (version: 1.3.0 | target: Linux | build: abcdef01 2026-02-03 04:05:06)";
}
int rkllm_init(void **handle, char *param, callback_t *callbacks) {
    callback = callbacks[0];
    *handle = &callback;
    int32_t context = *(int32_t *)(param + 8);
    if (context <= 512) return 0;
    printf("max_context[%d] must be less than the model's max_context_limit[512]\n", context);
    return -1;
}
int rkllm_run(void *handle, char *input, char *infer, void *userdata) {
    int32_t *ids = *(int32_t **)(input + 16);
    size_t count = *(size_t *)(input + 24);
    char result[72];
    memset(result, 0xee, sizeof result);
    for (size_t i = 0; i < count; i++) {
        *(char **)result = 0;
        *(int32_t *)(result + 8) = ids[i];
        if (callback(result, 0, 0) != 0) return -1;
    }
    callback(result, 0, 2);
    return 0;
}
int rkllm_abort(void *handle) { return 0; }
int rkllm_destroy(void *handle) { return 0; }
"""


def test_a_library_that_does_only_the_least_works(
    emulate: Emulate, tmp_path: Path, raw: MakeJob
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cc")
    library, source = tmp_path / "librkllmrt.so", tmp_path / "stranger.c"
    source.write_text(STRANGER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    model = emulate(library)

    loaded = ready(model)
    answer = model.ask(raw("an echo"))
    cut = model.ask(raw("another echo", num_predict=4))
    stopped = model.ask(raw("another echo", stop=("her",)))

    assert loaded.context_length == 512
    assert (answer.content, answer.last.finish) == ("an echo", "stop")
    assert (cut.content, cut.last.finish) == ("anot", "length")
    assert (stopped.content, stopped.last.finish) == ("anot", "stop")
    assert answer.ended.reused_tokens == 0
    assert answer.ended.prefill_ns > 0
    assert answer.ended.decode_ns > 0
