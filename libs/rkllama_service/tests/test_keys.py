"""Keys: what is kept of them, and the file they are in."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import inspect
import json
import multiprocessing
import os
import stat
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rkllama_service import key_file
from rkllama_service.key_file import KeyFileError
from rkllama_service.keys import Key, Keys, Scope, new_key
from rkllama_service.settings import Shared

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def create(path: Path, name: str, scope: Scope = Scope.INFER) -> str:
    return key_file.create(path, name, scope, now=NOW)


def names(path: Path) -> list[str]:
    keys = key_file.load(path)
    assert keys is not None
    return [key.name for key in keys.keys]


@pytest.mark.parametrize(
    ("has", "needed", "covers"),
    [
        (Scope.INFER, Scope.INFER, True),
        (Scope.INFER, Scope.ADMIN, False),
        (Scope.ADMIN, Scope.INFER, True),
        (Scope.ADMIN, Scope.ADMIN, True),
    ],
)
def test_an_admin_key_may_do_everything(has: Scope, needed: Scope, *, covers: bool) -> None:
    assert has.covers(needed) is covers


def test_a_key_is_found_by_its_whole_text() -> None:
    a, text_a = new_key("a", Scope.INFER, now=NOW)
    b, text_b = new_key("b", Scope.ADMIN, now=NOW)
    keys = Keys(keys=(a, b))

    assert keys.find(text_a.encode()) == a
    assert keys.find(text_b.encode()) == b
    for wrong in (b"", text_a[:-1].encode(), f"{text_a} ".encode(), a.sha256.encode(), b"\xff"):
        assert keys.find(wrong) is None


def test_a_key_has_256_random_bits_and_can_be_recognised() -> None:
    key, text = new_key("a", Scope.INFER, now=NOW)

    assert text.startswith("rk-")
    assert len(text) == 3 + 43
    assert text.endswith(key.hint)
    assert key.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert new_key("a", Scope.INFER, now=NOW)[1] != text


def test_hashes_are_compared_in_constant_time() -> None:
    """No run shows it: `find` leaves every comparison of a hash to `hmac.compare_digest`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(Keys.find)))
    nodes = list(ast.walk(tree))

    assert "compare_digest" in [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    assert not [node for node in nodes if isinstance(node, ast.Compare | ast.Break)]
    assert sum(isinstance(node, ast.Return) for node in nodes) == 1


def test_the_text_of_a_key_is_not_in_the_file(path: Path) -> None:
    text = create(path, "a", Scope.ADMIN)

    kept = path.read_text()
    assert text not in kept
    assert text.removeprefix("rk-")[:8] not in kept
    assert json.loads(kept)["keys"] == [
        {
            "name": "a",
            "scope": "admin",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "created": "2026-01-02T00:00:00Z",
            "hint": text[-4:],
        }
    ]


def test_the_file_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        create(path, "a")
        create(path, "b")
    finally:
        os.umask(before)

    assert {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()} == {0o600}
    assert sorted(found.name for found in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_what_root_writes_is_for_the_service_that_owns_the_folder(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, 1234, 1235)
    owner = path.parent.stat()
    create(path, "a")

    owners = {(found.stat().st_uid, found.stat().st_gid) for found in path.parent.iterdir()}
    assert owners == {(owner.st_uid, owner.st_gid)}


def test_names_are_given_once(path: Path) -> None:
    create(path, "a")
    with pytest.raises(KeyFileError, match="there is a key named 'a' already"):
        create(path, "a", Scope.ADMIN)

    assert names(path) == ["a"]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\n", "é", "a/b", "x" * 65, '"'])
def test_names_are_plain(path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="is no name of a key"):
        create(path, name)

    assert not path.exists()


def test_a_revoked_key_is_gone_and_its_name_free(path: Path) -> None:
    old = create(path, "a")
    create(path, "b")
    key_file.revoke(path, "a")
    new = create(path, "a")

    keys = key_file.load(path)
    assert keys is not None
    assert keys.find(old.encode()) is None
    assert keys.find(new.encode()) == keys.named("a")
    assert names(path) == ["b", "a"]


def test_what_is_not_there_cannot_be_revoked(path: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no key named 'a'"):
        key_file.revoke(path, "a")


def test_the_first_key_is_made_once(path: Path) -> None:
    text = key_file.create_first(path, now=NOW)
    assert text is not None
    keys = key_file.load(path)
    assert keys is not None
    found = keys.find(text.encode())
    assert found is not None
    assert (found.name, found.scope) == ("admin", Scope.ADMIN)

    assert key_file.create_first(path, now=NOW) is None
    key_file.revoke(path, "admin")
    assert key_file.create_first(path, now=NOW) is None


def test_no_file_is_another_thing_than_no_keys(path: Path) -> None:
    assert key_file.load(path) is None
    create(path, "a")
    key_file.revoke(path, "a")
    assert key_file.load(path) == Keys()


KEY = Key(name="a", scope=Scope.INFER, sha256="0" * 64, created=NOW, hint="abcd").model_dump(
    mode="json"
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "\ufffd",
        json.dumps({"version": 2, "keys": []}),
        json.dumps({"keys": [{**KEY, "scope": "root"}]}),
        json.dumps({"keys": [{**KEY, "sha256": "secret"}]}),
        json.dumps({"keys": [{**KEY, "created": "yesterday"}]}),
        json.dumps({"keys": [{**KEY, "name": "a b"}]}),
        json.dumps({"keys": [KEY, {**KEY, "sha256": "1" * 64}]}),
    ],
)
def test_a_broken_file_is_told_and_never_written_over(path: Path, content: str) -> None:
    path.write_text(content)
    for act in (
        lambda: key_file.load(path),
        lambda: create(path, "new"),
        lambda: key_file.revoke(path, "a"),
        lambda: key_file.create_first(path, now=NOW),
    ):
        with pytest.raises(KeyFileError, match="is no file of keys") as raised:
            act()

        assert "secret" not in str(raised.value)
    assert path.read_text() == content


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nothing" / "keys.json"
    with pytest.raises(KeyFileError, match=f"cannot change the keys in {path}: No such file"):
        create(path, "a")


def test_a_folder_in_the_files_place_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"cannot read the keys in .*: Is a directory"):
        key_file.load(tmp_path)


def _write_many(path: Path, writer: int, count: int) -> None:
    for at in range(count):
        create(path, f"w{writer}-{at}")


def test_two_writers_undo_nothing_of_each_other(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, n, 20)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(names(path)) == 40


def test_a_writer_waits_for_the_one_before(path: Path) -> None:
    create(path, "a")
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_many, args=(path, 1, 1))
    with path.with_name("keys.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer.start()
        # It stands in the kernel's list of those who wait for a lock.
        while f"-> FLOCK  ADVISORY  WRITE {writer.pid} " not in Path("/proc/locks").read_text():
            assert writer.is_alive()
        assert names(path) == ["a"]
    writer.join(60)

    assert names(path) == ["a", "w1-0"]


def test_where_the_file_is(tmp_path: Path) -> None:
    assert Shared(data=tmp_path).keys_path() == tmp_path / "keys.json"
    assert Shared(data=tmp_path).keys_path(Path("/d")) == Path("/d/keys.json")
    assert Shared(keys_file=Path("/k")).keys_path(Path("/d")) == Path("/k")
