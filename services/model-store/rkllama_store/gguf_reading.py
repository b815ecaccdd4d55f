"""Runs `gguf_facts` in its own process, and takes its report."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from pydantic import ValidationError
from rkllama_protocol.errors import InvalidModelError

from rkllama_store.facts import Report

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0
REPORT_BYTES = 128 * 2**20
UNREADABLE = "the GGUF file cannot be read"
_NOT_GGUF = 3


async def report(path: Path) -> Report:
    """What the GGUF file at `path` says.

    Raises:
        InvalidModelError: It is no GGUF file that can be read.
    """
    output = await _said(path)
    try:
        return Report.model_validate_json(output)
    except ValidationError as error:
        raise InvalidModelError(UNREADABLE) from error


async def metadata(path: Path) -> bytes:
    """All metadata of the GGUF file at `path`, as a JSON object; errors as `report`."""
    return await _said(path, "whole")


async def _said(path: Path, *arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rkllama_store.gguf_facts",
        str(path),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        # One thread: those of numpy's linear algebra count as memory, and are of no use here.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output = await _output(process)
            code = await process.wait()
    except TimeoutError as error:
        raise InvalidModelError("reading the GGUF file takes too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code == _NOT_GGUF:
        raise InvalidModelError(output.decode(errors="replace"))
    if code != 0:
        log.warning("GGUF file not read", extra={"blob": path.name, "exit_code": code})
        raise InvalidModelError(UNREADABLE)
    return output


async def _output(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        return b""
    output = bytearray()
    while piece := await process.stdout.read(2**16):
        output += piece
        if len(output) > REPORT_BYTES:
            raise InvalidModelError("the GGUF file says too much about itself")
    return bytes(output)
