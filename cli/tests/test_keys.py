"""`rkllama key`, and which keys `rkllama serve` asks for."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx2
import pytest
from rkllama_cli.__main__ import app
from rkllama_cli.serve import Plan, auth_of, children
from rkllama_service import key_file
from rkllama_service.keys import Auth, Scope
from typer.testing import CliRunner, Result

from cli.tests.test_serve import serve
from tests.stack import wait_until


def rkllama(folder: Path, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(
        app, list(arguments), env={"RKLLAMA_DATA": str(folder), **env}, prog_name="rkllama"
    )


def scope_of(path: Path, text: str) -> Scope | None:
    keys = key_file.load(path)
    assert keys is not None
    found = keys.find(text.encode())
    return found.scope if found else None


def test_a_key_is_printed_once_and_alone(tmp_path: Path) -> None:
    """`KEY=$(rkllama key create bob)`."""
    made = rkllama(tmp_path, "key", "create", "bob")
    path = tmp_path / "keys.json"

    assert made.exit_code == 0
    assert scope_of(path, made.stdout.strip()) is Scope.INFER
    assert made.stderr == f"this key is shown only now; {path} keeps no more than its hash\n"


def test_the_scope_is_chosen(tmp_path: Path) -> None:
    made = rkllama(tmp_path, "key", "create", "root", "--scope", "admin")

    assert scope_of(tmp_path / "keys.json", made.stdout.strip()) is Scope.ADMIN
    assert rkllama(tmp_path, "key", "create", "x", "--scope", "root").exit_code == 2


def test_the_list_has_no_secrets(tmp_path: Path) -> None:
    texts = [
        rkllama(tmp_path, "key", "create", "bob").stdout.strip(),
        rkllama(tmp_path, "key", "create", "root", "--scope", "admin").stdout.strip(),
    ]
    table = rkllama(tmp_path, "key", "list").stdout
    rows = json.loads(rkllama(tmp_path, "key", "list", "--json").stdout)

    assert [line.split() for line in table.splitlines()] == [
        ["NAME", "SCOPE", "CREATED", "KEY"],
        ["bob", "infer", *table.splitlines()[1].split()[2:-1], f"rk-...{texts[0][-4:]}"],
        ["root", "admin", *table.splitlines()[2].split()[2:-1], f"rk-...{texts[1][-4:]}"],
    ]
    assert [set(row) for row in rows] == [{"name", "scope", "created", "hint"}] * 2
    assert [(row["name"], row["scope"], row["hint"]) for row in rows] == [
        ("bob", "infer", texts[0][-4:]),
        ("root", "admin", texts[1][-4:]),
    ]
    assert not [text for text in texts if text[3:-4] in table]


def test_no_keys_are_an_empty_list(tmp_path: Path) -> None:
    assert rkllama(tmp_path, "key", "list").stdout.split() == ["NAME", "SCOPE", "CREATED", "KEY"]
    assert json.loads(rkllama(tmp_path, "key", "list", "--json").stdout) == []
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_revoked_by_its_name(tmp_path: Path) -> None:
    text = rkllama(tmp_path, "key", "create", "bob").stdout.strip()
    gone = rkllama(tmp_path, "key", "revoke", "bob")

    assert (gone.exit_code, gone.stdout) == (0, "revoked 'bob'\n")
    assert scope_of(tmp_path / "keys.json", text) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", "nobody"], "there is no key named 'nobody'"),
        (["create", "bob"], "there is a key named 'bob' already"),
        (["create", "a b"], "'a b' is no name of a key"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    rkllama(tmp_path, "key", "create", "bob")
    failed = rkllama(tmp_path, "key", *arguments)

    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"rkllama: {said}")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["list"], ["create", "bob"], ["revoke", "bob"]])
def test_a_broken_file_is_one_sentence(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "k"
    path.write_text("{")
    failed = rkllama(tmp_path, "key", *command, RKLLAMA_KEYS_FILE=str(path))

    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"rkllama: {path} is no file of keys: ")
    assert failed.stderr.count("\n") == 1


def test_the_file_is_where_the_server_looks(tmp_path: Path) -> None:
    rkllama(tmp_path, "key", "create", "a", "--data", str(tmp_path / "other"))
    rkllama(tmp_path, "key", "create", "b", RKLLAMA_KEYS_FILE=str(tmp_path / "named"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["named", "named.lock", "other"]
    assert (tmp_path / "other" / "keys.json").exists()


# ------------------------------------------------------------------------------ serve


def plan(folder: Path, host: str, auth: Auth | None = None) -> Plan:
    return Plan(
        host=host,
        port=0,
        data=folder,
        auth=auth,
        keys=folder / "keys.json",
        workers=1,
        runtime="cpu",
        rkllm_library=None,
        nats_url="nats://127.0.0.1:1",
        debug=False,
    )


@pytest.mark.parametrize(
    ("host", "said", "auth"),
    [
        ("127.0.0.1", None, Auth.OFF),
        ("0.0.0.0", None, Auth.ALL),  # noqa: S104
        ("0.0.0.0", Auth.OFF, Auth.OFF),  # noqa: S104
    ],
)
def test_the_address_decides_where_nothing_is_said(
    tmp_path: Path, host: str, said: Auth | None, auth: Auth
) -> None:
    chosen = plan(tmp_path, host, said)
    gateway = next(child for child in children(chosen, 1) if child.name == "gateway")

    assert auth_of(chosen) is auth
    assert gateway.env["RKLLAMA_AUTH"] == auth
    assert gateway.env["RKLLAMA_KEYS_FILE"] == str(tmp_path / "keys.json")


def test_services_are_not_told_the_key_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RKLLAMA_API_KEY", "a")
    monkeypatch.setenv("OLLAMA_API_KEY", "b")

    for child in children(plan(tmp_path, "127.0.0.1"), 1):
        assert {"RKLLAMA_API_KEY", "OLLAMA_API_KEY"} & set(child.env) == set()


def test_a_server_for_others_makes_a_key_and_lets_only_keys_in(bundled_data: Path) -> None:
    """From the first start to the second: what a person does who puts a board on the network."""
    arguments = ("--host", "0.0.0.0", "--port", "0", "--data", str(bundled_data))  # noqa: S104
    first = serve(*arguments)
    assert first.stdout is not None
    said: list[str] = []
    while "ready at " not in (line := first.stdout.readline()):
        assert first.poll() is None, first.communicate()[1]
        said.append(line.strip())
    try:
        url = line.split("ready at ")[1].strip().replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        (admin,) = (word for word in said if word.startswith("rk-"))
        refused = rkllama(bundled_data, "list", RKLLAMA_HOST=url)
        wrong = rkllama(bundled_data, "list", OLLAMA_API_KEY="rk-wrong", RKLLAMA_HOST=url)
        copied = rkllama(
            bundled_data, "cp", "smollm2:135m", "mine", RKLLAMA_API_KEY=admin, RKLLAMA_HOST=url
        )
        bob = rkllama(bundled_data, "key", "create", "bob").stdout.strip()

        def status(key: str) -> int:
            headers = {"x-api-key": key}
            return httpx2.get(f"{url}/api/tags", headers=headers, trust_env=False).status_code

        wait_until("the new key to count", lambda: status(bob) == 200)
        listed = rkllama(bundled_data, "list", OLLAMA_API_KEY=bob, RKLLAMA_HOST=url)
        forbidden = rkllama(bundled_data, "rm", "mine", RKLLAMA_API_KEY=bob, RKLLAMA_HOST=url)
        rkllama(bundled_data, "key", "revoke", "bob")
        wait_until("the revoked key to count no longer", lambda: status(bob) == 401)
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate()
    second = serve(*arguments)
    assert second.stdout is not None
    try:
        line = second.stdout.readline()
    finally:
        second.send_signal(signal.SIGTERM)
        second.communicate()

    assert refused.stderr == "rkllama: the server wants a key; set RKLLAMA_API_KEY\n"
    assert wrong.stderr == "rkllama: the server does not accept this key; set RKLLAMA_API_KEY\n"
    assert (refused.exit_code, wrong.exit_code) == (1, 1)
    assert copied.exit_code == 0
    assert "mine" in listed.stdout
    assert forbidden.stderr.startswith("rkllama: this API key may not do that")
    assert "ready at " in line
