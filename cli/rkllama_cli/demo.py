"""`make demo`: start everything on this machine, ask the small model one question, stop everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from rkllama_cli.serve import free_port

MODEL = "smollm2:135m"
QUESTION = "What is the capital of France?"
START_S = 120.0
STOP_S = 15.0
READY = "ready at "


@contextmanager
def _serving(data: Path) -> Iterator[str]:
    """A server of the demo's own; its URL, once it is ready."""
    argv = [sys.executable, "-m", "rkllama_cli", "serve", "--port", str(free_port())]
    log_path = data / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*argv, "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=dict(os.environ),
        )
    try:
        output = process.stdout
        line = output.readline().decode() if output else ""
        if READY not in line:
            process.wait(STOP_S)
            sys.stderr.write(log_path.read_text())
            raise SystemExit("rkllama: the server did not start")
        yield line.split(READY)[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


def _load(url: str) -> float:
    """Have the model loaded; the seconds that took."""
    began = time.monotonic()
    answer = httpx2.post(f"{url}/api/generate", json={"model": MODEL}, timeout=START_S)
    if answer.is_error:
        raise SystemExit(f"rkllama: {answer.text}")
    return time.monotonic() - began


def _ask(url: str) -> dict[str, Any]:
    """Print the answer as it comes; the last record, and `first_s` from the request to a token."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "options": {"temperature": 0},
    }
    first_s = 0.0
    asked_at = time.monotonic()
    record: dict[str, Any] = {}
    with httpx2.stream("POST", f"{url}/api/chat", json=body, timeout=START_S) as answer:
        if answer.is_error:
            raise SystemExit(f"rkllama: {answer.read().decode()}")
        for line in answer.iter_lines():
            record = json.loads(line)
            if "error" in record:
                raise SystemExit(f"rkllama: {record['error']}")
            first_s = first_s or time.monotonic() - asked_at
            print(record["message"]["content"], end="", flush=True)
    print()
    return record | {"first_s": first_s}


def main() -> None:
    """Run the demo in the folder named on the command line; its model is kept for the next run."""
    data = Path(sys.argv[1]).absolute()
    data.mkdir(parents=True, exist_ok=True)
    print("Starting a broker, a model store, a gateway and a worker ...", flush=True)
    with _serving(data) as url:
        print(f"Ready at {url}\n\n>>> {QUESTION}", flush=True)
        load_s = _load(url)
        last = _ask(url)
    speed = last["eval_count"] / (last["eval_duration"] / 1e9)
    print(
        f"\n{last['eval_count']} tokens at {speed:.1f} tokens/s, the first after "
        f"{last['first_s']:.2f} s (the model was loaded in {load_s:.2f} s before)."
    )


if __name__ == "__main__":
    main()
