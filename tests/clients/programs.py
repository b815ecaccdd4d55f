"""Runs programs of other people's clients against a stack, in the environments `make test-clients` builds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "clients"
VENV = BUILD / "venv" / "bin"
LITELLM = BUILD / "litellm" / "bin"
GUARD_S = 100


def output(command: list[Path | str], url: str, *, stdin: str = "", **env: str) -> str:
    """What a program prints; an assertion fails with its errors if it fails."""
    settings = {
        "RKLLAMA_URL": url,
        "OLLAMA_HOST": url,
        "NO_PROXY": "*",
        # Else it fetches a list of prices when it is imported.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        command,
        input=stdin,
        env=os.environ | settings | env,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def told(command: list[Path | str], url: str) -> Any:
    """The JSON in the last line of what a program prints; LiteLLM advertises before it."""
    return json.loads(output(command, url).splitlines()[-1])


def node(script: str, scenario: str, url: str, **env: str) -> Any:
    """What a scenario of a script in `js/` returns."""
    return json.loads(output([VENV / "node", HERE / "js" / script, scenario], url, **env))
