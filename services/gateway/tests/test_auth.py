"""The guard and its file: what is made or revoked counts soon, and what is broken opens no door."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rkllama_gateway.auth import RECHECK_S, Guard
from rkllama_gateway.dialects.access import MISSING, NOT_ADMIN, UNKNOWN, Refusal
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope
from rkllama_service.process import SetupError

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def create(path: Path, name: str, scope: Scope = Scope.INFER) -> str:
    return key_file.create(path, name, scope, now=NOW)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def delete(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.mkdir()


def delete_folder(path: Path) -> None:
    path.rmdir()


def guard(path: Path, clock: Clock, auth: Auth = Auth.ALL) -> Guard:
    return Guard(auth, path, clock=clock)


async def admit(guard: Guard, *keys: str, path: str = "/api/chat") -> Refusal | None:
    return (await judged(guard, *keys, path=path))[0]


async def judged(guard: Guard, *keys: str, path: str) -> tuple[Refusal | None, Any]:
    """The verdict, and the name that handlers see."""
    headers = [(b"authorization", b"Bearer " + key.encode()) for key in keys]
    scope: dict[str, Any] = {"type": "http", "path": path, "headers": headers}
    refusal = await guard.admit(scope)
    return refusal, scope["state"]["key_name"]


async def test_the_name_of_the_key_is_there_for_whoever_needs_it(path: Path, clock: Clock) -> None:
    """Also where no key is needed: limits are counted by it."""
    text = create(path, "bob")
    for auth in (Auth.ADMIN, Auth.ALL):
        assert await judged(guard(path, clock, auth), text, path="/api/chat") == (None, "bob")
        assert await judged(guard(path, clock, auth), text, path="/") == (None, "bob")
    assert await judged(guard(path, clock, Auth.ADMIN), "x", path="/api/chat") == (None, None)
    assert await judged(guard(path, clock, Auth.ADMIN), text, path="/api/pull") == (
        NOT_ADMIN,
        "bob",
    )


async def test_the_first_known_key_counts(path: Path, clock: Clock) -> None:
    text = create(path, "bob")

    assert await judged(guard(path, clock), "x", text, path="/api/chat") == (None, "bob")


async def test_off_ignores_whatever_is_sent_and_reads_no_file(path: Path, clock: Clock) -> None:
    """Contract 1.2."""
    put(path, b"{")
    door = guard(path, clock, Auth.OFF)

    assert await judged(door, "x", path="/api/pull") == (None, None)
    assert await judged(door, path="/api/pull") == (None, None)


async def test_a_new_key_counts_after_a_second_and_not_before(path: Path, clock: Clock) -> None:
    create(path, "a")
    door = guard(path, clock)
    text = create(path, "b")

    clock.now += RECHECK_S - 0.001
    assert await admit(door, text) is UNKNOWN
    clock.now += 0.001
    assert await admit(door, text) is None


async def test_a_revoked_key_counts_no_longer(path: Path, clock: Clock) -> None:
    text, other = create(path, "a"), create(path, "b")
    door = guard(path, clock)
    assert await admit(door, text) is None

    key_file.revoke(path, "a")
    clock.now += RECHECK_S
    assert await admit(door, text) is UNKNOWN
    assert await admit(door, other) is None


@pytest.mark.parametrize("broken", [b"", b"{", b'{"version":9}'])
async def test_a_broken_file_leaves_the_last_good_keys_and_is_told_once(
    path: Path, clock: Clock, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    text = create(path, "a")
    door = guard(path, clock)
    good = read(path)
    put(path, broken)

    for _ in range(3):
        clock.now += RECHECK_S
        assert await admit(door, text) is None
        assert await admit(door, "x") is UNKNOWN
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in errors] == [
        "keys not read, the last good ones stay in force"
    ]

    put(path, good.replace(b'"a"', b'"renamed"'))
    clock.now += RECHECK_S
    assert await judged(door, text, path="/api/chat") == (None, "renamed")


async def test_a_file_that_cannot_be_read_leaves_the_last_good_keys(
    path: Path, clock: Clock
) -> None:
    text = create(path, "a")
    door = guard(path, clock)
    delete(path)
    make_folder(path)

    clock.now += RECHECK_S
    assert await admit(door, text) is None

    delete_folder(path)
    create(path, "b")
    clock.now += RECHECK_S
    assert await admit(door, text) is UNKNOWN


async def test_a_missing_file_lets_nobody_in_until_there_is_one(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    door = guard(path, clock)
    assert "no file of keys, nobody is let in" in caplog.messages
    assert await admit(door) is MISSING
    assert await admit(door, "") is MISSING
    assert await admit(door, "x") is UNKNOWN

    text = create(path, "a")
    clock.now += RECHECK_S
    assert await admit(door, text) is None


async def test_a_file_that_goes_takes_its_keys_with_it(path: Path, clock: Clock) -> None:
    text = create(path, "a")
    door = guard(path, clock)
    delete(path)

    clock.now += RECHECK_S
    assert await admit(door, text) is UNKNOWN


def test_a_file_that_is_broken_at_the_start_stops_the_process(path: Path, clock: Clock) -> None:
    put(path, b"{")

    with pytest.raises(SetupError, match="is no file of keys"):
        guard(path, clock)


async def test_no_key_is_ever_logged(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = create(path, "a")
    door = guard(path, clock)
    await admit(door, text)
    await admit(door, "rk-wrong")
    # Somebody puts the key itself where its hash belongs.
    put(path, re.sub(rb'"[0-9a-f]{64}"', f'"{text}"'.encode(), read(path)))
    clock.now += RECHECK_S
    await admit(door, text)

    assert "should match pattern" in caplog.text
    assert text not in caplog.text
    assert "rk-wrong" not in caplog.text
