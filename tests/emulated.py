"""Emulated boards for tests: libraries built once, scripted models, created over HTTP as a person would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ollama
from rkllm_bindings.emulator import ModelScript, build, byte_level_tokenizer

from tests.stack import Stack

EOS = 257
_HEADER_BEGINS = 256
SPECIAL = {_HEADER_BEGINS: "<|im_start|>", EOS: "<|im_end|>"}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALPHABET = "etaoin shrdlu éñ世🌧 ."


def known(tokens: int, **facts: Any) -> ModelScript:
    """A model that continues any ids by a pure function of them, to answers of so many tokens.

    So the whole answer to a prompt is known beforehand, and one that another board went on with is right
    only if that board got the prompt and every generated id: the length counts from the last header.
    """
    header = len("assistant\n")
    return ModelScript(
        alphabet=ALPHABET, answer_mark=_HEADER_BEGINS, answer_tokens=header + tokens, **facts
    )


def library(family: str, folder: Path) -> Path:
    """The emulator built for an ABI family."""
    return build(family, folder)


def prompt_ids(script: ModelScript, content: str) -> list[int]:
    """The ids that a chat with one user message becomes."""
    return script.tokenize(f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n")


def model_files(
    script: ModelScript, folder: Path, *, special: Mapping[int, str] = SPECIAL
) -> dict[str, Path]:
    """The files of a model, by the names they are created with."""
    folder.mkdir(parents=True, exist_ok=True)
    script = replace(script, special=special, eos=(EOS,))
    weights = script.write(folder / "model.rkllm")
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(byte_level_tokenizer(special)))
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": SPECIAL[EOS], "chat_template": TEMPLATE}))
    return {path.name: path for path in (weights, tokenizer, config)}


def create(
    client: ollama.Client,
    name: str,
    script: ModelScript,
    folder: Path,
    *,
    special: Mapping[int, str] = SPECIAL,
) -> ModelScript:
    """Create the model on a server; the script with what all of them share."""
    files = model_files(script, folder / name, special=special)
    digests = {title: client.create_blob(path) for title, path in files.items()}
    client.create(name, files=digests)
    return replace(script, special=special, eos=(EOS,))


@contextmanager
def emulated(
    folder: Path,
    family: str,
    *,
    workers: int = 1,
    most_workers: int = 0,
    gateways: int = 1,
    worker_prefix: Sequence[str] = (),
    **env: str,
) -> Iterator[Stack]:
    """A stack whose workers drive the emulator of one ABI family."""
    settings = {
        "RKLLAMA_RKLLM_LIBRARY": str(library(family, folder)),
        "RKLLAMA_WORKER_RUNTIME": "rkllm",
        "RKLLAMA_PLATFORM": "rk3588",
        "RKLLAMA_STORE_BUNDLED": "false",
    }
    with Stack(
        folder,
        workers=workers,
        most_workers=most_workers,
        gateways=gateways,
        env=settings | env,
        worker_prefix=worker_prefix,
    ) as running:
        yield running
