"""The bad days that the vendor's library is known for, each in a process that may die of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

NEEDS_DEATH = {"abort": -signal.SIGABRT, "segfault": -signal.SIGSEGV, "exit": 1}


@pytest.mark.parametrize("fault", list(NEEDS_DEATH))
def test_a_run_that_kills_its_process(
    stage: Any, libraries: dict[str, Path], family: str, run_alone: Any, fault: str
) -> None:
    model = stage.script(fault=fault, fault_after=3)
    done = run_alone(libraries[family], model)

    assert done.returncode == NEEDS_DEATH[fault]
    assert [line["event"] for line in stage.trace()] == ["init", "run"]


def test_an_init_that_kills_its_process(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    """1.3.0, a second model without NPU memory (rknn-llm#522)."""
    done = run_alone(libraries["abi-1.3.0"], stage.script(init_fault="segfault"))

    assert done.returncode == -signal.SIGSEGV
    assert "rkllm-runtime version: 1.3.0" in done.stdout


def test_an_init_that_succeeds_and_a_run_that_crashes(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    """1.1.x after a failed load (rknn-llm#156)."""
    code = "model.load(); print('loaded', flush=True); model.run(Text(prompt='hi'), given.append)"
    done = run_alone(libraries["abi-1.1"], stage.script(init_fault="late_crash"), code)

    assert done.returncode == -signal.SIGSEGV
    assert "loaded" in done.stdout


def test_an_init_that_fails_says_why_on_stdout(
    stage: Any, libraries: dict[str, Path], family: str, run_alone: Any
) -> None:
    done = run_alone(libraries[family], stage.script(init_fault="fail"))

    assert done.returncode == 1
    assert "InitError: rkllm_init returned -1" in done.stderr
    assert "failed to malloc npu memory" in done.stdout


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"target_platform": "RK3576"}, "target_platform does not match the real platform"),
        (
            {"context_limit": 1024},
            "max_context[4096] must be less than the model's max_context_limit",
        ),
        ({"fault": "none", "seed": "x"}, "bad value for `seed`"),
    ],
)
def test_a_refused_model_is_named_in_the_log(
    stage: Any, libraries: dict[str, Path], run_alone: Any, keys: dict[str, Any], said: str
) -> None:
    done = run_alone(libraries["abi-1.3.0"], stage.script(**keys))

    assert said in done.stdout


def test_the_init_log_has_the_facts_of_the_model(
    stage: Any, libraries: dict[str, Path], family: str, run_alone: Any
) -> None:
    model = stage.script(toolkit_version="1.1.9", context_limit=4096, npu_cores=2)
    done = run_alone(libraries[family], model, "model.load(); model.close()")
    lines = done.stdout.splitlines()

    assert lines[0].startswith("I rkllm: rkllm-runtime version: 1.")
    assert "rknpu driver version: 0.9.8, platform: RK3588" in lines[0]
    toolkit = next(line for line in lines if "rkllm-toolkit version" in line)
    assert "1.1.9, max_context_limit: 4096, npu_core_num: 2, target_platform: RK3588" in toolkit


def test_a_run_that_hangs_heeds_no_abort(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    """Only its process can be ended."""
    code = (
        "import os, threading\n"
        "model.load()\n"
        "over = threading.Event()\n"
        "def stop():\n"
        "    model.abort()\n"
        "    os._exit(0 if over.wait(0.5) else 7)\n"
        "def on_step(step):\n"
        "    given.append(step)\n"
        "    if len(given) == 2: threading.Timer(0.05, stop).start()\n"
        "model.run(Text(prompt='hi'), on_step)\n"
        "over.set()"
    )
    model = stage.script(fault="hang", fault_after=2)

    assert run_alone(libraries["abi-1.3.0"], model, code).returncode == 7
    assert [line["event"] for line in stage.trace()] == ["init", "run", "abort"]


def test_an_error_is_a_run_error_and_the_next_run_works(
    stage: Any, libraries: dict[str, Path], family: str, run_alone: Any
) -> None:
    code = (
        "model.load()\n"
        "try: model.run(Text(prompt='hi'), given.append)\n"
        "except RunError as error:\n"
        "    print(error.function, error.status, [step.state.name for step in given])\n"
        "print(model.run(Text(prompt='ho'), given.append).finished)\n"
    )
    model = stage.script(fault="error", fault_after=1, fault_on_run=1, answer_tokens=2)
    done = run_alone(libraries[family], model, code)

    assert "rkllm_run -1 ['NORMAL', 'ERROR']" in done.stdout
    assert "True" in done.stdout


def test_a_fault_for_some_prompts_spares_the_others(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    model = stage.script(fault="segfault", fault_when="kill", answer_tokens=2)
    library = libraries["abi-1.2.1"]
    code = "model.load(); model.run(Text(prompt='{}'), given.append)"

    assert run_alone(library, model, code.format("live")).returncode == 0
    assert run_alone(library, model, code.format("kill me")).returncode == -signal.SIGSEGV


def test_a_fault_that_comes_once_spares_the_next_process(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    model = stage.script(fault="abort", fault_once=stage.folder / "once", answer_tokens=2)
    library = libraries["abi-1.3.0"]

    assert [run_alone(library, model).returncode for _ in range(2)] == [-signal.SIGABRT, 0]


def test_a_destroy_that_crashes(stage: Any, libraries: dict[str, Path], run_alone: Any) -> None:
    model = stage.script(destroy_fault="segfault")
    done = run_alone(libraries["abi-1.3.0"], model, "model.load(); model.close()")

    assert done.returncode == -signal.SIGSEGV


def test_an_interrupt_in_a_callback_ends_the_run(
    stage: Any, libraries: dict[str, Path], run_alone: Any
) -> None:
    """Python runs signal handlers inside callbacks of the main thread; C must not see them."""
    code = (
        "import os, signal\n"
        "model.load()\n"
        "def on_step(step):\n"
        "    given.append(step)\n"
        "    if len(given) == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "try: model.run(Text(prompt='hi'), on_step)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    model = stage.script(decode_tokens_per_s=100)
    done = run_alone(libraries["abi-1.3.0"], model, code)

    assert (done.returncode, "interrupted" in done.stdout) == (0, True)
    assert stage.trace("run_end")[0]["aborted"] is True
