"""The store: pull, import and verify, beside `cp` and `sha256sum` of the same bytes."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from rkllm_bindings.emulator import byte_level_tokenizer

from bench.figures import Figure
from bench.machine import MIB
from tests.emulated import SPECIAL
from tests.stack import Stack

FAMILY = "store"
SIZE = 256 * MIB
NAME = "Bench-3B-rk3588-w8a8.rkllm"


def measure(rounds: int) -> Iterator[Figure]:
    """Every round anew: the system's cache has the file, so that the code is measured and not the disk."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            for what, seconds in asyncio.run(_round(Path(name))):
                found.setdefault(what, []).append(SIZE / MIB / seconds)
    for what, speeds in found.items():
        yield Figure(family=FAMILY, name=what, unit="MiB/s", values=tuple(speeds), better="more")


async def _round(folder: Path) -> list[tuple[str, float]]:
    weights = folder / "old" / "Bench" / NAME
    weights.parent.mkdir(parents=True)
    block = os.urandom(2**20 + 7)
    with weights.open("wb") as file:
        for begin in range(0, SIZE, len(block)):
            file.write(block[: SIZE - begin])
    tokenizer = json.dumps(byte_level_tokenizer(SPECIAL)).encode()
    weights.with_name("tokenizer.json").write_bytes(tokenizer)
    weights.with_name("Modelfile").write_text(f'FROM="{NAME}"\nHUGGINGFACE_PATH="bench/bench"\n')
    hub_module: Any = importlib.import_module("services.model-store.tests.hub_server")
    hub = hub_module.HubServer()
    async with hub.serving():
        repo = hub.repo("acme/bench")
        repo.add(NAME, hub_module.Content(size=SIZE, block=block), lfs=True)
        repo.add("tokenizer.json", tokenizer)
        return await asyncio.to_thread(_timed, folder, weights, hub.url)


def _timed(folder: Path, weights: Path, hub_url: str) -> list[tuple[str, float]]:
    found = [
        ("cp", _seconds(lambda: _run("cp", str(weights), str(folder / "copy")))),
        ("sha256sum", _seconds(lambda: _run("sha256sum", str(weights)))),
    ]
    system = folder / "system"
    system.mkdir()
    env = {"HF_ENDPOINT": hub_url, "RKLLAMA_STORE_BUNDLED": "false"}
    with (
        Stack(system, workers=0, env=env) as running,
        httpx2.Client(base_url=running.url, timeout=None, trust_env=False) as client,
    ):

        def ask(path: str) -> None:
            body = {"model": "hf.co/acme/bench", "stream": False}
            answer = client.post(path, json=body).raise_for_status().json()
            if answer.get("status") != "success":
                raise RuntimeError(str(answer))

        found.append(
            ("pull, from a hub in Python on this machine", _seconds(lambda: ask("/api/pull")))
        )
        found.append(("verify", _seconds(lambda: ask("/api/verify"))))
    importer = [sys.executable, "-m", "rkllama_store.importer", str(weights.parents[1])]
    data = {"RKLLAMA_DATA": str(folder / "new"), "HF_HUB_OFFLINE": "1"}
    found.append(("import", _seconds(lambda: _run(*importer, **data))))
    return found


def _run(*argv: str, **env: str) -> None:
    subprocess.run(argv, check=True, env=os.environ | env, capture_output=True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
