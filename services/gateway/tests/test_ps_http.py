"""`/api/ps`: by the workers' own word, at the moment of asking (contract 2.5)."""

from __future__ import annotations

from typing import Any

from services.gateway.tests.conftest import Staged
from services.gateway.tests.harness import Stage, resident

ELSEWHERE = "registry.ollama.ai/library/other:latest"


async def _rows(on: Stage) -> list[dict[str, Any]]:
    answer = await on.client.get("/api/ps")
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.json()["models"]
    return rows


def _says(on: Stage, number: int, *models: Any) -> None:
    worker = on.workers[number]
    worker.status = worker.beat.model_copy(update={"models": models})


async def test_what_a_worker_says_now_counts_and_not_its_last_beat(stage: Staged) -> None:
    """Its beat still has the model, but it was unloaded since."""
    async with stage(beat={"models": (resident(),)}) as on:
        before = await _rows(on)
        _says(on, 0)

        assert [row["name"] for row in before] == ["m:latest"]
        assert await _rows(on) == []


async def test_a_model_that_is_being_loaded_appears(stage: Staged) -> None:
    async with stage() as on:
        _says(on, 0, resident(state="loading", context_length=0))

        assert [(row["name"], row["context_length"]) for row in await _rows(on)] == [
            ("m:latest", 0)
        ]


async def test_a_model_that_is_going_is_gone(stage: Staged) -> None:
    """It answers nothing any more: a client that unloaded it need not wait for its process's end."""
    async with stage(workers=2) as on:
        _says(on, 0, resident(state="unloading"))
        assert await _rows(on) == []

        _says(on, 1, resident(size=7))
        assert [row["size"] for row in await _rows(on)] == [7]


async def test_a_model_on_several_boards_is_one_row(stage: Staged) -> None:
    async with stage(workers=3) as on:
        _says(on, 0, resident(size=10, size_vram=10, expires_in_s=5.0, context_length=4096))
        _says(on, 1, resident(size=20, size_vram=0, expires_in_s=None, context_length=2048))
        _says(on, 2, resident(size=1, size_vram=0, state="loading", context_length=0))
        (row,) = await _rows(on)

    assert (row["size"], row["size_vram"], row["context_length"]) == (31, 10, 2048)
    assert int(row["expires_at"][:4]) > 2300


async def test_the_same_weights_loaded_under_two_names_are_two_rows(stage: Staged) -> None:
    """The one that stays longer comes first."""
    async with stage(workers=2) as on:
        _says(on, 0, resident(expires_in_s=5.0))
        _says(on, 1, resident(name="other:latest", full_name=ELSEWHERE, expires_in_s=6.0))

        assert [row["name"] for row in await _rows(on)] == ["other:latest", "m:latest"]


async def test_a_worker_that_is_gone_since_its_last_beat_holds_nothing(stage: Staged) -> None:
    async with stage(beat={"models": (resident(size=7),)}) as on:
        gone = on.worker.beat.model_copy(update={"worker_id": "gone"})
        on.gateway.boards.observer.note("gone", gone)

        assert [row["size"] for row in await _rows(on)] == [7]


async def test_an_unload_is_asked_of_every_worker_before_it_is_answered(stage: Staged) -> None:
    """Also of those whose last beat does not have the model: they may have loaded it since."""
    async with stage(workers=3) as on:
        answer = await on.post("/api/generate", keep_alive=0)
        asked = [worker.unloads.get_nowait().model for worker in on.workers]

    assert answer.json()["done_reason"] == "unload"
    assert asked == [resident().digest] * 3
