"""`rkllama create` from a Modelfile of RKLLAMA's, through command line, gateway, broker and store."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.stack import Stack

from .hub_server import HubServer

MODELFILE = """\
FROM="Qwen2.5-3B-rk3588-w8a8.rkllm"
HUGGINGFACE_PATH="Qwen/Qwen2.5-3B-Instruct"
SYSTEM="You are brief."
TEMPERATURE=0.5
"""


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serving() as server:
        repo = server.repo("Qwen/Qwen2.5-3B-Instruct")
        repo.add("tokenizer.json", b'{"model": {}}', lfs=True)
        repo.add("tokenizer_config.json", b'{"chat_template": "{{ messages }}"}')
        yield server


@pytest.fixture
def modelfile(tmp_path: Path) -> Path:
    """As RKLLAMA writes it, beside the weights."""
    folder = tmp_path / "Qwen2.5-3B"
    folder.mkdir()
    (folder / "Qwen2.5-3B-rk3588-w8a8.rkllm").write_bytes(b"rkllm weights")
    (folder / "Modelfile").write_text(MODELFILE)
    return folder / "Modelfile"


async def rkllama(url: str, *arguments: str) -> tuple[int | None, str]:
    """A command's exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rkllama_cli",
        *arguments,
        env=os.environ | {"RKLLAMA_HOST": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("offline", [False, True])
async def test_the_tokenizer_is_fetched_when_the_model_is_made(
    hub: HubServer, modelfile: Path, tmp_path: Path, offline: bool
) -> None:
    env = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "RKLLAMA_STORE_BUNDLED": "no",
    }
    with Stack(tmp_path, workers=0, env=env) as stack:
        code, said = await rkllama(stack.url, "create", "qwen", "-f", str(modelfile))
        async with httpx2.AsyncClient(base_url=stack.url, trust_env=False) as web:
            tags = (await web.get("/api/tags")).json()["models"]
        _, shown = await rkllama(stack.url, "show", "qwen")

    if offline:
        sentence = (
            "rkllama: the tokenizer cannot be fetched from Qwen/Qwen2.5-3B-Instruct: "
            "HF_HUB_OFFLINE is set, so nothing can be pulled from a hub\n"
        )
        assert (code, tags) == (1, [])
        assert said.endswith(sentence)
        assert hub.seen == []
    else:
        assert code == 0, said
        assert said.endswith("success\n")
        assert (tags[0]["name"], tags[0]["details"]["parameter_size"]) == ("qwen:latest", "3B")
        assert tags[0]["details"]["quantization_level"] == "W8A8"
        assert "You are brief." in shown
