"""What a person has to mend about a process's way to the broker is one sentence, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from rkllama_service.broker_access import read
from rkllama_service.process import SetupError
from rkllama_service.settings import Shared

PASSWORD = "hush"  # noqa: S105 - of nobody


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("x").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    (tmp_path / "user.json").write_text(f'{{"user": "me", "password": "{PASSWORD}"}}')
    (tmp_path / "dotted.json").write_text(f'{{"user": "me.too", "password": "{PASSWORD}"}}')
    (tmp_path / "bad.pem").write_text("nothing")
    return tmp_path


def shared(folder: Path, **files: str) -> Shared:
    return Shared.model_validate(
        {f"nats_{name}_file": folder / file for name, file in files.items()}
    )


def test_without_settings_there_is_nobody_and_no_tls(folder: Path) -> None:
    access = read(shared(folder))

    assert (access.credentials, access.tls) == (None, None)


def test_files_are_read(folder: Path) -> None:
    files = {"tls_ca": "ca.pem", "tls_cert": "me.pem", "tls_key": "me.pem"}
    access = read(shared(folder, credentials="user.json", **files))

    assert access.credentials is not None
    assert (access.credentials.user, access.credentials.id) == ("me", "*")
    assert access.tls is not None
    assert access.tls.check_hostname
    assert PASSWORD not in repr(access)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"credentials": "none.json"}, "cannot read the credentials in .*: No such file"),
        ({"credentials": "bad.pem"}, "is no file of credentials"),
        ({"credentials": "dotted.json"}, "is no file of credentials"),
        ({"tls_ca": "none.pem"}, "cannot use the certificates for the broker"),
        ({"tls_ca": "bad.pem"}, "cannot use the certificates for the broker"),
        ({"tls_ca": "ca.pem", "tls_cert": "me.pem"}, "go together"),
        ({"tls_ca": "ca.pem", "tls_cert": "ca.pem", "tls_key": "ca.pem"}, "cannot use"),
        ({"tls_cert": "me.pem", "tls_key": "me.pem"}, "needs RKLLAMA_NATS_TLS_CA_FILE"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_without_the_password(
    folder: Path, files: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SetupError, match=sentence) as caught:
        read(shared(folder, **files))
    assert PASSWORD not in str(caught.value)
