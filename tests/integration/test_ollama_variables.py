"""Ollama's own variables, as a person who comes from Ollama has them set (contract 5)."""

from __future__ import annotations

from pathlib import Path

import httpx2
import ollama
from rkllm_bindings.emulator import ModelScript

from tests.emulated import create, emulated


def test_a_system_heeds_ollamas_variables(http: httpx2.Client, tmp_path: Path) -> None:
    with (
        emulated(
            tmp_path,
            "abi-1.3.0",
            OLLAMA_CONTEXT_LENGTH="512",
            OLLAMA_KEEP_ALIVE="-1m",
            OLLAMA_MAX_LOADED_MODELS="1",
            OLLAMA_ORIGINS="https://*.example",
        ) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        for seed, name in enumerate(("one", "two")):
            create(client, name, ModelScript(seed=seed), tmp_path)
            client.generate(name)
        page = http.get(f"{stack.url}/api/ps", headers={"origin": "https://a.example"})

    (loaded,) = page.json()["models"]
    assert (loaded["name"], loaded["context_length"]) == ("two:latest", 512)
    assert int(loaded["expires_at"][:4]) > 2300
    assert page.headers["access-control-allow-origin"] == "https://a.example"
