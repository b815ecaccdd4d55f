"""`python -m bench.bare LIBRARY MODEL`: the runtime with nothing around it, a run for each line it is sent.

A line in is `{"prompt": [ids], "tokens": n}`; a line out is its seconds to the first token and to the end,
and the ids, with a word before it: the library prints lines of its own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rkllm_bindings import Model, ModelConfig, State, Step, Tokens, load_library

ANSWER = "bench "


def main() -> None:
    """Run until the input ends."""
    library, path = sys.argv[1:]
    config = ModelConfig(path=Path(path), max_context_len=16384)
    with Model(load_library(Path(library)), config) as model:
        print(f"{ANSWER}ready", flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            ids: list[int] = []
            first: list[float] = []

            def on_step(step: Step, ids: list[int] = ids, first: list[float] = first) -> None:
                if step.state is State.NORMAL:
                    if not ids:
                        first.append(time.perf_counter())
                    ids.append(step.token_id)

            began = time.perf_counter()
            model.run(Tokens(ids=asked["prompt"]), on_step, max_new_tokens=asked["tokens"])
            whole_s = time.perf_counter() - began
            answer = {"first_s": first[0] - began, "whole_s": whole_s, "ids": ids}
            print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
