"""The broker's files: made once, extended, never wider than their owner."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from rkllama_service.broker import CONFIG, init
from rkllama_service.process import SetupError


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rkllama_service.broker", "init", str(folder), *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def config(folder: Path) -> dict[str, Any]:
    _, _, rest = (folder / CONFIG).read_text().partition("\n")
    return dict(json.loads(rest))


def users(folder: Path) -> dict[str, dict[str, Any]]:
    return {user["user"]: user for user in config(folder)["authorization"]["users"]}


def test_every_process_gets_a_file_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    done = run(folder, "--gateway", "g1", "g2", "--store", "s", "--worker", "w1", "--worker", "w2")

    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} == {
        CONFIG,
        *(f"{name}.json" for name in ("g1", "g2", "s", "w1", "w2")),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    worker = json.loads((folder / "w1.json").read_text())
    assert (worker["user"], worker["role"], worker["id"]) == ("w1", "worker", "w1")
    assert set(users(folder)) == {"g1", "g2", "s", "w1", "w2"}


def test_the_configuration_holds_hashes_and_no_password(tmp_path: Path) -> None:
    init(tmp_path, [("worker", "w1")], listen="127.0.0.1:4222")

    password = json.loads((tmp_path / "w1.json").read_text())["password"]
    assert password not in (tmp_path / CONFIG).read_text()
    assert bcrypt.checkpw(password.encode(), users(tmp_path)["w1"]["password"].encode())


def test_said_again_passwords_stay_and_new_names_are_added(tmp_path: Path) -> None:
    init(tmp_path, [("worker", "w1"), ("store", "s")], listen="127.0.0.1:4222")
    before = (tmp_path / "w1.json").read_bytes()
    init(tmp_path, [("worker", "w1"), ("worker", "w2")], listen="127.0.0.1:4222")

    assert (tmp_path / "w1.json").read_bytes() == before
    assert set(users(tmp_path)) == {"w1", "w2", "s"}


def test_one_user_can_stand_for_a_worker_of_any_id(tmp_path: Path) -> None:
    assert run(tmp_path, "--worker", "*").returncode == 0

    assert json.loads((tmp_path / "workers.json").read_text())["id"] == "*"
    allowed = users(tmp_path)["workers"]["permissions"]
    assert "rkllama.reply.*.*.*.*" in allowed["publish"]["allow"]
    assert "rkllama.gateway.*.*.claim" in allowed["publish"]["allow"]


def test_what_is_listened_on_is_what_was_said(tmp_path: Path) -> None:
    run(tmp_path, "--store", "s", "--listen", "0.0.0.0:4333", "--monitor", "127.0.0.1:8222")

    found = config(tmp_path)
    assert (found["listen"], found["http"]) == ("0.0.0.0:4333", "127.0.0.1:8222")
    assert "jetstream" not in found
    assert "no_auth_user" not in found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--worker", "a.b"], "a.b"),
        (["--gateway", "one", "--worker", "one"], "the name 'one' is a gateway's already"),
        (["--store", "s", "--prefix", "a.*"], "*"),
        (["--store", "s", "--tls-cert", "c.pem"], "--tls-cert and --tls-key go together"),
    ],
)
def test_what_a_person_has_to_mend_is_a_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = run(tmp_path, *arguments)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_users_is_refused_without_showing_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "w1.json").write_text('{"user": "a b", "password": "secret"}')

    with pytest.raises(SetupError, match="no file of credentials") as caught:
        init(tmp_path, [("worker", "w2")], listen="127.0.0.1:4222")
    assert "secret" not in str(caught.value)
