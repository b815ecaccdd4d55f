"""`python -m bench.bare LIBRARY MODEL TOKENS ROUNDS`: the runtime with nothing around it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rkllm_bindings import Model, ModelConfig, State, Step, Tokens, load_library

PROMPT = [ord(letter) for letter in "hello"]


def main() -> None:
    """Print a JSON list: seconds to the first token and to the end, and tokens, of each run."""
    library, path, tokens, rounds = sys.argv[1:]
    runs: list[dict[str, float]] = []
    with Model(load_library(Path(library)), ModelConfig(path=Path(path))) as model:
        for _ in range(int(rounds) + 1):
            began, first_s, count = time.perf_counter(), 0.0, 0

            def on_step(step: Step) -> None:
                nonlocal first_s, count
                if step.state is State.NORMAL:
                    first_s = first_s or time.perf_counter() - began  # noqa: B023 - called in this turn
                    count += 1

            model.run(Tokens(ids=PROMPT), on_step, max_new_tokens=int(tokens))
            whole_s = time.perf_counter() - began
            runs.append({"first_s": first_s, "whole_s": whole_s, "tokens": count})
    # The first run warms up.
    print(json.dumps(runs[1:]))


if __name__ == "__main__":
    main()
