"""`make bench`: what the stack costs over the bare runtime, in one run on one machine.

The bare runtime is the emulator driven through `rkllm_bindings` in a process of its own; the stack is
gateway, broker, worker and engine around the same library and the same model script.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import ollama
from rkllm_bindings.emulator import ModelScript

from tests.emulated import create, library, model_files
from tests.stack import Stack

FAMILY = "abi-1.3.0"
ROUNDS = 40
TOOL_ROUNDS = 15
STREAMS = (1, 16, 64)
TOKENS = 400
TAIL_BYTES = 16384
PACED_TOKENS = 60
PACES = (16.7, 78.0)
"""Tokens a second: Qwen2.5-1.5B on RK3588 by the vendor, and the fastest board one may hope for."""


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Looks something up.",
            "parameters": {
                "type": "object",
                "properties": {"what": {"type": "string"}, "times": {"type": "integer"}},
                "required": ["what"],
            },
        },
    }
    for number in range(10)
]
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>"
    "<tool_call></tool_call><|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


@contextmanager
def emulated_stack(folder: Path) -> Iterator[Stack]:
    settings = {
        "RKLLAMA_RKLLM_LIBRARY": str(library(FAMILY, folder)),
        "RKLLAMA_WORKER_RUNTIME": "rkllm",
        "RKLLAMA_PLATFORM": "rk3588",
        "RKLLAMA_STORE_BUNDLED": "false",
    }
    with Stack(folder, env=settings) as running:
        yield running


def bare(folder: Path, model: Path, *, tokens: int) -> list[dict[str, float]]:
    """First-token and whole-run seconds of the bare runtime, in a process of its own."""
    argv = [sys.executable, "-m", "bench.bare", str(library(FAMILY, folder)), str(model)]
    argv += [str(tokens), str(ROUNDS)]
    run = subprocess.run(argv, check=True, capture_output=True)  # noqa: S603 - our own module
    # The library prints lines of its own before.
    found: list[dict[str, float]] = json.loads(run.stdout.splitlines()[-1])
    return found


async def through(
    client: httpx2.AsyncClient, url: str, model: str, *, tokens: int
) -> dict[str, float]:
    """The same through HTTP: one streamed request. Lines are not read, but for the last."""
    body = {"model": model, "prompt": "hello", "raw": True, "options": {"num_predict": tokens}}
    return await timed(client, f"{url}/api/generate", body)


async def timed(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> dict[str, float]:
    """Seconds to the first line and to the last, and the tokens of one streamed request."""
    asked_at, first_s, tail = time.perf_counter(), 0.0, b""
    async with client.stream("POST", url, json=body) as answer:
        async for piece in answer.aiter_raw():
            first_s = first_s or time.perf_counter() - asked_at
            tail = (tail + piece)[-TAIL_BYTES:]
    whole_s = time.perf_counter() - asked_at
    last = json.loads(tail.splitlines()[-1])
    return {"first_s": first_s, "whole_s": whole_s, "tokens": last["eval_count"]}


async def one_by_one(url: str, model: str, *, tokens: int, rounds: int) -> list[dict[str, float]]:
    """Requests one after another on one connection, after one that warms up."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        return [await through(client, url, model, tokens=tokens) for _ in range(rounds + 1)][1:]


async def with_tools(url: str, rounds: int) -> dict[str, float]:
    """What ten tools that are not called cost a conversation: their figures ÷ those without, medians.

    The two take turns, so that both see the same machine.
    """
    body = {
        "model": "tools",
        "messages": [{"role": "user", "content": "hello"}],
        "options": {"num_predict": TOKENS},
    }
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        for _ in range(rounds + 1):
            for tools, taken in runs.items():
                asked = body | ({"tools": TOOLS} if tools else {})
                taken.append(await timed(client, f"{url}/api/chat", asked))

    def median(value: Callable[[dict[str, float]], float], *, tools: bool) -> float:
        return statistics.median(value(run) for run in runs[tools][1:])

    def first(run: dict[str, float]) -> float:
        return run["first_s"]

    def speed(run: dict[str, float]) -> float:
        return run["tokens"] / (run["whole_s"] - run["first_s"])

    return {
        "first": median(first, tools=True) / median(first, tools=False),
        "speed": median(speed, tools=True) / median(speed, tools=False),
    }


async def throughput(url: str, streams: int) -> float:
    """Tokens a second of that many requests at once; one board runs them one after another."""
    limits = httpx2.Limits(max_connections=streams)
    async with httpx2.AsyncClient(timeout=None, trust_env=False, limits=limits) as client:
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(through(client, url, "fast", tokens=TOKENS) for _ in range(streams))
        )
        return sum(a["tokens"] for a in answers) / (time.perf_counter() - began)


def spread(values: list[float]) -> str:
    quarters = statistics.quantiles(values, n=20)
    return f"{statistics.median(values):8.2f} (5-95 %: {quarters[0]:.2f} to {quarters[-1]:.2f})"


def main() -> None:
    """Measure, and print a table."""
    rows: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            emulated_stack(folder) as stack,
            ollama.Client(host=stack.url, trust_env=False) as client,
        ):
            script = ModelScript(seed=1, answer_tokens=100_000)
            create(client, "fast", script, folder)
            model = model_files(script, folder / "bare")["model.rkllm"]
            alone = [1000 * run["first_s"] for run in bare(folder, model, tokens=5)]
            stacked = [
                1000 * run["first_s"]
                for run in asyncio.run(one_by_one(stack.url, "fast", tokens=5, rounds=ROUNDS))
            ]
            print(f"first token, bare           ms {spread(alone)}")
            print(f"first token, through HTTP   ms {spread(stacked)}")
            cost = statistics.median(stacked) - statistics.median(alone)
            print(f"the stack's part            ms {cost:8.2f}")
            rows |= {"first_bare_ms": alone, "first_http_ms": stacked}
            whole = [run["tokens"] / run["whole_s"] for run in bare(folder, model, tokens=TOKENS)]
            print(f"\nbare                  tokens/s {spread(whole)}")
            for streams in STREAMS:
                speed = asyncio.run(throughput(stack.url, streams))
                share = speed / statistics.median(whole)
                print(f"{streams:3} streams           tokens/s {speed:8.0f} ({share:.2f} of bare)")
                rows[f"tokens_per_s_{streams}"] = speed
            client.create("tools", from_="fast", template=TOOL_TEMPLATE)
            tools = rows["tools"] = asyncio.run(with_tools(stack.url, TOOL_ROUNDS))
            print("\nten tools, none called, by what there is without:")
            print(f"first token {tools['first']:.2f}, tokens/s {tools['speed']:.2f}")
            for pace in PACES:
                paced = ModelScript(seed=1, answer_tokens=100_000, decode_tokens_per_s=pace)
                create(client, f"paced{pace:g}", paced, folder)
                (answer,) = asyncio.run(
                    one_by_one(stack.url, f"paced{pace:g}", tokens=PACED_TOKENS, rounds=1)
                )
                share = answer["tokens"] / answer["whole_s"] / pace
                print(f"at {pace:4.1f} tokens/s        efficiency {share:8.4f}")
                rows[f"efficiency_{pace:g}"] = share
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{time.strftime('%Y-%m-%d')}.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    print(
        f"\nwritten to {path.relative_to(Path.cwd())}; {rows['cores']} cores, load {rows['load']:.1f}"
    )


if __name__ == "__main__":
    main()
