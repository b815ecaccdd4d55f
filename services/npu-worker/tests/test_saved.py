"""What a board saves, takes up and forgets: the plans of its runs, and what comes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rkllama_protocol.messages import Link, ModelDetails, ResolvedModel, Speed, Ticket
from rkllama_protocol.subjects import JobClass
from rkllama_worker.engine.wire import RunEnded, Saving
from rkllama_worker.residency import Resident
from rkllama_worker.saved import SavedContexts

A, B = (f"sha256:{letter * 64}" for letter in "ab")
SPEED = Speed(model=A, prefill_s_per_token=0.01, restore_s=0.1)
SIZE = 100


def loaded(
    digest: str = A, *, saves_as: str = "runtime-1", context_length: int = 4096, **facts: Any
) -> Resident:
    model = ResolvedModel(
        name="m", full_name="m", digest=digest, size=1, modified_at="", details=ModelDetails()
    )
    return Resident(
        model=model,
        size=1,
        keep_alive_s=60,
        saves_as=saves_as,
        context_length=context_length,
        **facts,
    )


def ticket(*hashes: str, tokens: int = 100) -> Ticket:
    """A turn of a conversation: half of the prompt is the turn before."""
    links = tuple(
        Link(hash=name, tokens=tokens * at // len(hashes)) for at, name in enumerate(hashes, 1)
    )
    return Ticket(
        job_id="j",
        attempt=1,
        job_class=JobClass.INTERACTIVE,
        model=A,
        model_format="rkllm",
        weights_bytes=1,
        age_s=0,
        order=0,
        prompt_tokens=tokens,
        chain=links,
        gateway_id="g",
    )


@pytest.fixture
async def saved(tmp_path: Path) -> AsyncIterator[SavedContexts]:
    contexts = SavedContexts(tmp_path / "saved", limit_bytes=3 * SIZE, max_age_s=60)
    await contexts.open()
    yield contexts
    await contexts.close()


def wrote(saving: Saving, **facts: Any) -> RunEnded:
    """The engine has written the file."""
    Path(saving.save_to).write_bytes(bytes(SIZE))
    return RunEnded(last_seq=0, saved_bytes=SIZE, **facts)


async def save(saved: SavedContexts, turn: Ticket, entry: Resident) -> Path:
    """Run a turn that is saved; its file."""
    saving = saved.plan(turn, entry, SPEED)
    assert saving is not None
    await saved.note(turn, entry, saving, wrote(saving))
    return Path(saving.save_to)


async def test_what_was_saved_is_taken_up(saved: SavedContexts) -> None:
    file = await save(saved, ticket("a"), loaded())
    plan = saved.plan(ticket("a", "b"), loaded(), SPEED)

    assert saved.hashes == ("a",)
    assert plan is not None
    assert plan.restore == str(file)
    assert Path(plan.save_to).name.startswith("b.")


async def test_the_next_turn_takes_the_place_of_the_one_before(saved: SavedContexts) -> None:
    """It holds all that the other did."""
    first = await save(saved, ticket("a"), loaded())
    second = await save(saved, ticket("a", "b"), loaded())

    assert saved.hashes == ("b",)
    assert (first.exists(), second.exists()) == (False, True)


@pytest.mark.parametrize(
    "reader",
    [
        loaded(B),
        loaded(saves_as="runtime-2"),
        loaded(context_length=8192),
        loaded(saves_as=""),
        loaded(holds=("a",)),
    ],
    ids=["another model", "version", "context", "saves nothing", "holds it"],
)
async def test_who_did_not_write_it_or_has_it_does_not_read_it(
    saved: SavedContexts, reader: Resident
) -> None:
    await save(saved, ticket("a"), loaded())
    plan = saved.plan(ticket("a", "b"), reader, SPEED)

    assert plan is None or not plan.restore


async def test_another_conversation_does_not_get_it(saved: SavedContexts) -> None:
    await save(saved, ticket("a"), loaded())
    plan = saved.plan(ticket("x", "y"), loaded(), SPEED)

    assert plan is not None
    assert not plan.restore


async def test_what_is_too_much_goes_by_its_use(saved: SavedContexts) -> None:
    """Room for three: the one that was taken up last stays, though it is the oldest."""
    files = {name: await save(saved, ticket(name), loaded()) for name in "abc"}
    turn = ticket("a", "a2", tokens=15)
    plan = Saving(restore=str(files["a"]))
    await saved.note(turn, loaded(), plan, RunEnded(last_seq=0, restored=True, reused_tokens=7))
    await save(saved, ticket("d"), loaded())

    assert set(saved.hashes) == {"a", "c", "d"}
    assert not files["b"].exists()
    assert saved.size_bytes == 3 * SIZE


REFUSALS = {
    "not restored": RunEnded(last_seq=0, restored=False),
    "of no use": RunEnded(last_seq=0, restored=True, reused_tokens=0),
    "not saved": RunEnded(last_seq=0, restored=True, reused_tokens=9, save_refused=True),
}


@pytest.mark.parametrize("told", REFUSALS)
async def test_a_runtime_that_refuses_once_is_not_asked_again(
    saved: SavedContexts, told: str
) -> None:
    await save(saved, ticket("a"), loaded())
    turn = ticket("a", "b")
    plan = saved.plan(turn, loaded(), SPEED)
    assert plan is not None
    await saved.note(turn, loaded(), plan, REFUSALS[told])

    assert saved.plan(turn, loaded(), SPEED) is None
    other = saved.plan(turn, loaded(B), SPEED)
    assert other is not None


async def test_a_disk_that_was_full_is_tried_again_later(tmp_path: Path) -> None:
    contexts = SavedContexts(tmp_path, limit_bytes=3 * SIZE, max_age_s=60, refused_s=0)
    await contexts.open()
    turn = ticket("a")
    plan = contexts.plan(turn, loaded(), SPEED)
    assert plan is not None
    await contexts.note(turn, loaded(), plan, RunEnded(last_seq=0, save_refused=True))
    await save(contexts, turn, loaded())
    names = contexts.hashes
    await contexts.close()

    assert names == ("a",)


def files_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def half_written(saving: Saving) -> Path:
    part = Path(saving.save_to + ".part")
    part.write_bytes(b"half")
    return part


async def test_a_file_that_an_engine_died_of_is_not_tried_again(saved: SavedContexts) -> None:
    """And what the engine was writing, or had written and not told of, is removed."""
    await save(saved, ticket("a"), loaded())
    turn = ticket("a", "b")
    plan = saved.plan(turn, loaded(), SPEED)
    assert plan is not None
    part = half_written(plan)
    wrote(plan)
    await saved.note(turn, loaded(), plan, None)

    assert saved.hashes == ()
    assert files_in(part.parent) == ["lock"]
    again = saved.plan(turn, loaded(), SPEED)
    assert again is not None
    assert not again.restore


async def test_an_engine_that_was_to_write_nothing_left_nothing(
    saved: SavedContexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death removes no file of somebody else's, wherever the worker stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".part").write_bytes(b"precious")
    await saved.note(ticket("a"), loaded(), Saving(restore="gone"), None)

    assert (tmp_path / ".part").exists()


async def test_what_nobody_goes_on_with_is_removed(tmp_path: Path) -> None:
    contexts = SavedContexts(tmp_path / "saved", limit_bytes=3 * SIZE, max_age_s=-1)
    await contexts.open()
    file = await save(contexts, ticket("a"), loaded())
    await contexts.expire()

    assert (contexts.hashes, file.exists()) == ((), False)


async def test_a_disk_that_removes_nothing_ends_no_worker(saved: SavedContexts) -> None:
    """It became read-only: what is on it is no longer counted, and the runs go on."""
    file = await save(saved, ticket("a"), loaded())
    unremovable(file)
    await save(saved, ticket("a", "b"), loaded())

    assert saved.hashes == ("b",)
    assert saved.size_bytes == SIZE


def unremovable(file: Path) -> None:
    file.unlink()
    file.mkdir()


async def test_the_folder_is_emptied_at_the_start_and_gone_at_the_end(tmp_path: Path) -> None:
    """Whole files and half ones: whoever wrote them was killed."""
    folder = tmp_path / "saved"
    folder.mkdir()
    for left in ("0123456789abcdef.1", "0123456789abcdef.22.part"):
        (folder / left).write_bytes(b"secret")
    contexts = SavedContexts(folder, limit_bytes=SIZE, max_age_s=60)
    await contexts.open()
    found = {path.name for path in folder.iterdir()}
    await contexts.close()

    assert found == {"lock"}
    assert not folder.exists()


async def test_a_folder_that_has_other_things_in_it_keeps_them(tmp_path: Path) -> None:
    """Somebody named /dev/shm, or his home."""
    names = ("photo.jpg", "0123456789abcdef", "0123456789abcdef.1.txt", "folder/0123456789abcdef.1")
    (tmp_path / "folder").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"precious")
    contexts = SavedContexts(tmp_path, limit_bytes=3 * SIZE, max_age_s=60)
    await contexts.open()
    file = await save(contexts, ticket("0123456789abcdef"), loaded())
    kept = contexts.hashes
    await contexts.close()

    assert kept == ("0123456789abcdef",)
    assert not file.exists()
    assert sorted(files_in(tmp_path)) == sorted(names)


async def test_two_workers_do_not_share_a_folder(saved: SavedContexts, tmp_path: Path) -> None:
    """The second one saves nothing, and takes nothing away."""
    file = await save(saved, ticket("a"), loaded())
    second = SavedContexts(tmp_path / "saved", limit_bytes=SIZE, max_age_s=60)
    await second.open()
    plan = second.plan(ticket("a", "b"), loaded(), SPEED)
    await second.close()

    assert plan is None
    assert file.exists()


async def test_a_limit_of_nothing_saves_nothing(tmp_path: Path) -> None:
    contexts = SavedContexts(tmp_path / "saved", limit_bytes=0, max_age_s=60)
    await contexts.open()

    assert contexts.plan(ticket("a"), loaded(), SPEED) is None
    assert not (tmp_path / "saved").exists()
