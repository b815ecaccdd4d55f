"""`/api/ps` over real workers: true in the very next request after a load or an unload was answered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from tests.integration.conftest import MODEL
from tests.stack import Stack, prepared, wait_until


def _rows(http: httpx2.Client, url: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = http.get(f"{url}/api/ps").json()["models"]
    return rows


def _generate(http: httpx2.Client, url: str, **fields: Any) -> dict[str, Any]:
    answer = http.post(f"{url}/api/generate", json={"model": MODEL, "stream": False, **fields})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_ps_is_true_when_a_load_or_an_unload_is_answered(
    two_workers: Stack, http: httpx2.Client
) -> None:
    """However often, and on whichever board: no beat is waited for."""
    url = two_workers.url
    for _ in range(3):
        assert _generate(http, url, keep_alive="1h")["done_reason"] == "load"
        (row,) = _rows(http, url)
        assert (row["name"], row["size_vram"]) == (MODEL, 0)
        assert row["size"] > 90_000_000
        assert row["context_length"] > 0
        left = datetime.fromisoformat(row["expires_at"]) - datetime.now().astimezone()
        assert 3_500 < left.total_seconds() <= 3_600

        assert _generate(http, url, keep_alive=0)["done_reason"] == "unload"
        assert _rows(http, url) == []


def test_a_model_that_two_boards_hold_is_one_row_and_goes_from_both(
    two_workers: Stack, http: httpx2.Client
) -> None:
    url = two_workers.url
    _generate(http, url, keep_alive="1h")
    (one,) = _rows(http, url)
    long = {"prompt": "Count to one hundred.", "options": {"num_predict": 60, "temperature": 0}}
    with ThreadPoolExecutor(6) as pool:
        # More than one board can take at a time: in the end loading is cheaper than waiting.
        for done in [pool.submit(_generate, http, url, keep_alive=-1, **long) for _ in range(6)]:
            done.result()
    (both,) = _rows(http, url)
    assert all(two_workers.runs(f"worker-{number}") > 0 for number in (1, 2))
    assert both["size"] > 1.5 * one["size"]
    assert datetime.fromisoformat(both["expires_at"]).year > 2300

    _generate(http, url, keep_alive=0)
    assert _rows(http, url) == []
    assert two_workers.engines("worker-1") == two_workers.engines("worker-2") == []


def test_a_model_that_is_not_to_be_kept_is_gone_after_its_answer(
    two_workers: Stack, http: httpx2.Client
) -> None:
    for _ in range(5):
        told = _generate(
            http, two_workers.url, prompt="hi", keep_alive=0, options={"num_predict": 3}
        )
        assert told["done_reason"] == "length"
        assert _rows(http, two_workers.url) == []


def test_what_no_name_means_any_more_is_unloaded(two_workers: Stack, http: httpx2.Client) -> None:
    """However long it was to be kept: nobody could name it to have it unloaded."""

    def make(name: str, system: str) -> None:
        asked = {"model": name, "from": MODEL, "system": system, "stream": False}
        assert http.post(f"{url}/api/create", json=asked).json() == {"status": "success"}

    def loaded(name: str, system: str) -> str:
        make(name, system)
        asked = {"model": name, "keep_alive": -1, "stream": False}
        assert http.post(f"{url}/api/generate", json=asked).json()["done_reason"] == "load"
        return next(row["digest"] for row in _rows(http, url) if row["name"] == f"{name}:latest")

    url = two_workers.url
    copied, deleted, replaced = (loaded(name, name) for name in ("copied", "deleted", "replaced"))
    assert {copied, deleted, replaced} == {row["digest"] for row in _rows(http, url)}

    http.post(f"{url}/api/copy", json={"source": "copied", "destination": "other"})
    for name in ("copied", "deleted"):
        http.request("DELETE", f"{url}/api/delete", json={"model": name})
    make("replaced", "Say something else.")

    wait_until(
        "only the copied one to be there",
        lambda: {row["digest"] for row in _rows(http, url)} == {copied},
    )


def test_debug_mode_writes_a_file_and_answers(
    models: Path, tmp_path: Path, http: httpx2.Client
) -> None:
    """All processes write to the one file; what people ask is in neither."""
    prompt = "What is the capital of France?"
    with Stack(prepared(models, tmp_path), env={"RKLLAMA_DEBUG": "true"}) as stack:
        _generate(http, stack.url, prompt=prompt, options={"num_predict": 3})
        told = http.get(f"{stack.url}/api/debug")
        lines = (tmp_path / "rkllama_debug.log").read_text()

    events = [json.loads(line) for line in lines.splitlines()]
    assert len({event["pid"] for event in events}) == 3
    assert {"request answered", "model loaded", "job ended"} <= {e["event"] for e in events}
    (engine,) = told.json()["workers"][0]["engines"]
    assert (engine["name"], engine["state"]) == (MODEL, "ready")
    note = next(n for n in told.json()["requests"] if n["endpoint"] == "POST /api/generate")
    assert (note["outcome"], note["model"], note["tokens"]) == ("ok", MODEL, 3)
    assert "France" not in lines + told.text
