"""`rkllama doctor`: what it finds on a machine without an NPU, and with the emulator for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply

from tests.emulated import create, library
from tests.stack import Stack


def doctor(*arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    run = subprocess.run(
        [sys.executable, "-m", "rkllama_cli", "doctor", "--json", *arguments],
        check=False,
        capture_output=True,
        env=os.environ | env,
    )
    return run.returncode, json.loads(run.stdout)


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {finding["topic"]: finding["level"] for finding in report["findings"]}


def test_without_an_npu_it_says_what_is_missing_and_tries_the_cpu(bundled_data: Path) -> None:
    code, report = doctor("--data", str(bundled_data))

    assert code == 1
    assert levels(report)["node"] == "error"
    assert levels(report)["library"] == "error"
    assert report["self_test"]["model"] == "smollm2:135m"
    assert report["self_test"]["decode_tokens_per_s"] > 1
    assert all(f["mend"] for f in report["findings"] if f["topic"] in ("node", "library"))


def test_for_the_cpu_alone_the_same_machine_is_all_right(bundled_data: Path) -> None:
    code, report = doctor("--data", str(bundled_data), "--runtime", "cpu")

    assert code == 0
    assert report["ok"] is True


@pytest.fixture
def emulated_data(tmp_path: Path) -> Path:
    """A data folder with one scripted model: 339 and 16.7 tokens a second, ten times faster."""
    settings = {"RKLLAMA_STORE_BUNDLED": "false"}
    script = ModelScript(
        replies=[Reply(text="x" * 200)],
        prefill_tokens_per_s=339,
        decode_tokens_per_s=16.7,
        clock=10,
    )
    with Stack(tmp_path, workers=0, env=settings) as stack, ollama.Client(host=stack.url) as client:
        create(client, "scripted", script, tmp_path)
    return tmp_path


def test_with_the_emulator_it_says_so_and_measures_what_the_script_says(
    emulated_data: Path,
) -> None:
    path = library("abi-1.3.0", emulated_data)
    code, report = doctor(
        "--data", str(emulated_data), "--rkllm-library", str(path), RKLLAMA_PLATFORM="rk3588"
    )

    assert code == 0
    assert report["emulator"] is True
    assert report["library"]["family"] == "abi-1.3.0"
    assert report["self_test"]["decode_tokens_per_s"] == pytest.approx(167, rel=0.02)
    assert report["self_test"]["prefill_tokens_per_s"] == pytest.approx(3390, rel=0.02)
    (saved,) = (finding for finding in report["findings"] if finding["topic"] == "saved")
    assert report["self_test"]["saved"]["tokens"] == report["self_test"]["prompt_tokens"]
    assert report["self_test"]["saved"]["restore_s"] < report["self_test"]["prompt_tokens"] / 3390
    assert "RKLLAMA_WORKER_RKLLM_SAVED" in saved["mend"]


def test_a_model_whose_prompts_cannot_be_saved_is_said_to_be_one(tmp_path: Path) -> None:
    settings = {"RKLLAMA_STORE_BUNDLED": "false"}
    script = ModelScript(answer_tokens=20, decode_tokens_per_s=1000, prompt_cache_works=False)
    with Stack(tmp_path, workers=0, env=settings) as stack, ollama.Client(host=stack.url) as client:
        create(client, "scripted", script, tmp_path)
    path = library("abi-1.3.0", tmp_path)
    code, report = doctor("--data", str(tmp_path), "--rkllm-library", str(path))

    assert code == 0
    assert report["self_test"]["saved"] is None
    assert levels(report)["saved"] == "ok"


def test_a_library_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "librkllmrt.so"
    wrong.write_bytes(b"\x7fELF, but not much of it")
    code, report = doctor("--data", str(tmp_path), "--rkllm-library", str(wrong))

    assert code == 1
    assert levels(report)["library"] == "error"
