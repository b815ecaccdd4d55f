"""`python -m rkllama_worker.doctor`: what this machine has, what is missing, and how to mend it.

`rkllama doctor` runs it. Exit code 0: a worker can run here; 1: something has to be mended first.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict, replace
from pathlib import Path

import orjson
from rkllama_board import Board, Finding, Level, LibraryFacts, check, check_model, detect
from rkllama_protocol.errors import RkllamaError
from rkllama_service.process import SetupError, fail
from rkllama_service.settings import Shared, read
from rkllm_bindings import Identity, LibraryError, LibraryNotFoundError, find_library, identify

from rkllama_worker.npu import Npu, take
from rkllama_worker.runtimes import why_no_cpu
from rkllama_worker.self_test import Measured, measure
from rkllama_worker.settings import Settings
from rkllama_worker.stored_models import StoredModel, stored_models

DTYPES = (
    "w4a16_g128",
    "w4a16_g64",
    "w4a16_g32",
    "w4a16",
    "w8a8_g512",
    "w8a8_g256",
    "w8a8_g128",
    "w8a8",
)
SIGNS = {Level.OK: "ok     ", Level.WARN: "warning", Level.ERROR: "error  "}


def _library(shared: Shared) -> tuple[Identity | None, LibraryFacts]:
    named = shared.rkllm_library is not None
    path = str(shared.rkllm_library or "")
    try:
        identity = identify(find_library(shared.rkllm_library), abi=shared.rkllm_abi or None)
    except LibraryNotFoundError as error:
        return None, LibraryFacts(path=path or "librkllmrt.so", named=named, problem=str(error))
    except LibraryError as error:
        return None, LibraryFacts(path=path or "librkllmrt.so", named=named, problem=str(error))
    facts = LibraryFacts(
        path=str(identity.path),
        version=identity.version or "",
        family=identity.family,
        emulator=identity.emulator,
        named=named,
    )
    return identity, facts


def _model_findings(models: list[StoredModel], board: Board, *, rkllm: bool) -> list[Finding]:
    found: list[Finding] = []
    for model in models:
        if model.model_format == "gguf":
            reason = why_no_cpu()
            level = Level.WARN if reason else Level.OK
            text = f"{model.name}: {reason or 'runs on the CPU'}"
            found.append(Finding(level=level, topic="model", text=text))
            continue
        if not rkllm:
            text = f"{model.name} needs the RKLLM library"
            found.append(Finding(level=Level.ERROR, topic="model", text=text))
            continue
        words = model.weights_name.lower().replace("-", "_")
        dtype = next((name for name in DTYPES if name in words), "")
        found += check_model(
            board,
            name=model.name,
            size_bytes=model.size_bytes,
            platform=model.weights_name,
            dtype=dtype,
        )
    return found


async def _self_test(
    models: list[StoredModel], npu: Npu | None, board: Board
) -> tuple[Measured | None, list[Finding]]:
    """One run of the smallest model that this machine can run."""
    runnable = [m for m in models if m.model_format == "gguf" or npu is not None]
    wanted = "rkllm" if npu is not None else "gguf"
    chosen = min(
        (m for m in runnable if m.model_format == wanted), key=lambda m: m.size_bytes, default=None
    )
    if chosen is None:
        text = f"there is no {wanted} model in the store to try"
        mend = "pull one and run the doctor again"
        return None, [Finding(level=Level.WARN, topic="self-test", text=text, mend=mend)]
    try:
        measured = await measure(chosen, npu=npu if wanted == "rkllm" else None, board=board)
    except RkllamaError as error:
        text = f"{chosen.name} does not run: {error}"
        return None, [Finding(level=Level.ERROR, topic="self-test", text=text)]
    text = (
        f"{measured.model}: loaded in {measured.load_s:.1f} s, "
        f"prefill {measured.prefill_tokens_per_s:.1f} tokens/s ({measured.prompt_tokens} tokens), "
        f"decode {measured.decode_tokens_per_s:.1f} tokens/s ({measured.new_tokens} tokens)"
    )
    if (vendor := measured.vendor) is not None:
        text += (
            f"; the vendor says {vendor.prefill_tokens_per_s:.1f} and {vendor.tokens_per_s:.1f} "
            f"for {vendor.model} {vendor.dtype} on {vendor.soc} with runtime {vendor.runtime}"
        )
    if npu is not None and npu.identity.emulator:
        text += " (emulator: these figures are scripted)"
    return measured, [
        Finding(level=Level.OK, topic="self-test", text=text),
        _saving(measured, npu=wanted == "rkllm"),
    ]


def _saving(measured: Measured, *, npu: bool) -> Finding:
    """Whether conversations are worth saving here; on the NPU, nobody does it unasked."""
    saved = measured.saved
    if saved is None:
        text = "the runtime takes up no conversation from a file"
        return Finding(level=Level.OK, topic="saved", text=text)
    read_s = saved.tokens / measured.prefill_tokens_per_s
    text = (
        f"{saved.tokens} tokens of a conversation are taken up from a file of {saved.size_bytes >> 10} "
        f"KiB in {saved.restore_s:.2f} s, and read in {read_s:.2f} s"
    )
    worth = npu and saved.restore_s < read_s
    mend = "set RKLLAMA_WORKER_RKLLM_SAVED=true to keep conversations" if worth else ""
    return Finding(level=Level.OK, topic="saved", text=text, mend=mend)


async def examine(shared: Shared, *, cpu_only: bool) -> dict[str, object]:
    """Everything the doctor finds, ready for printing."""
    board = detect(platform=shared.platform)
    identity, library = _library(shared)
    findings = [] if cpu_only else check(board, library=library)
    npu: Npu | None = None
    if identity is not None and not cpu_only:
        try:
            npu = await asyncio.to_thread(
                take, board, identity, abi=shared.rkllm_abi, explicit=library.named
            )
            # What a worker does only when it is told to is measured here, so that somebody can tell it.
            npu = replace(npu, saves=True)
        except SetupError as error:
            findings.append(Finding(level=Level.ERROR, topic="npu", text=str(error)))
    reason = why_no_cpu()
    findings.append(
        Finding(
            level=(Level.ERROR if cpu_only else Level.WARN) if reason else Level.OK,
            topic="cpu runtime",
            text=reason or "llama.cpp is here: GGUF models run on the CPU",
        )
    )
    models = await asyncio.to_thread(list, stored_models(shared.data_dir / "models"))
    findings += _model_findings(models, board, rkllm=npu is not None)
    measured, tested = await _self_test(models, npu, board)
    findings += tested
    return {
        "ok": not any(finding.level is Level.ERROR for finding in findings),
        "emulator": bool(identity and identity.emulator),
        "board": asdict(board),
        "library": asdict(library),
        "findings": [asdict(finding) for finding in findings],
        "self_test": None if measured is None else asdict(measured),
    }


def _print(report: dict[str, object]) -> None:
    findings = report["findings"]
    if not isinstance(findings, list):
        return
    for finding in findings:
        sys.stdout.write(f"{SIGNS[finding['level']]}  {finding['topic']:11}  {finding['text']}\n")
        if finding["mend"]:
            sys.stdout.write(f"{'':22}-> {finding['mend']}\n")
    if report["emulator"]:
        sys.stdout.write("\nThe library is the emulator: nothing here says anything of a board.\n")


def main() -> None:
    """Examine this machine, print what was found, and exit with 0 or 1."""
    parser = argparse.ArgumentParser(prog="rkllama doctor")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    try:
        settings, shared = read(Settings)
    except SetupError as error:
        fail(error)
    report = asyncio.run(examine(shared, cpu_only=settings.runtime == "cpu"))
    if asked.json:
        sys.stdout.buffer.write(orjson.dumps(report, option=orjson.OPT_INDENT_2, default=_plain))
        sys.stdout.write("\n")
    else:
        _print(report)
    raise SystemExit(0 if report["ok"] else 1)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main()
