"""What takes a key where nobody said, and the first key."""

from __future__ import annotations

from pathlib import Path

import pytest
from rkllama_service import key_file
from rkllama_service.first_key import auth_for, first_key
from rkllama_service.keys import Auth, Scope
from rkllama_service.process import SetupError


@pytest.mark.parametrize(
    ("said", "address", "auth"),
    [
        (None, "127.0.0.1", Auth.OFF),
        (None, "::1", Auth.OFF),
        (None, "localhost", Auth.OFF),
        (None, "0.0.0.0", Auth.ALL),  # noqa: S104
        (None, "::", Auth.ALL),
        (None, "", Auth.ALL),
        (None, "192.168.1.2", Auth.ALL),
        (None, "board", Auth.ALL),
        (Auth.OFF, "0.0.0.0", Auth.OFF),  # noqa: S104
        (Auth.ADMIN, "0.0.0.0", Auth.ADMIN),  # noqa: S104
        (Auth.ADMIN, "127.0.0.1", Auth.ADMIN),
        (Auth.ALL, "127.0.0.1", Auth.ALL),
    ],
)
def test_the_address_decides_where_nothing_is_said(
    said: Auth | None, address: str, auth: Auth
) -> None:
    assert auth_for(said, address) is auth


@pytest.mark.parametrize("auth", [Auth.ADMIN, Auth.ALL])
def test_the_first_key_is_told_once_and_manages(tmp_path: Path, auth: Auth) -> None:
    path = tmp_path / "keys.json"
    told = first_key(auth, path)
    assert told is not None
    (text,) = (word for word in told.split() if word.startswith("rk-"))
    keys = key_file.load(path)
    assert keys is not None
    found = keys.find(text.encode())

    assert found is not None
    assert found.scope is Scope.ADMIN
    assert first_key(auth, path) is None


def test_no_key_is_made_where_none_is_needed(tmp_path: Path) -> None:
    assert first_key(Auth.OFF, tmp_path / "keys.json") is None
    assert list(tmp_path.iterdir()) == []


def test_keys_that_cannot_be_read_are_for_a_person_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")

    with pytest.raises(SetupError, match="is no file of keys"):
        first_key(Auth.ALL, path)
