"""Names and digests from outside, on a real store: none of them becomes a path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.stack import Stack

OUTSIDE = "a secret outside of the store"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a secret in it, and the data folder of a server."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "secret.txt").write_text(OUTSIDE)
    (folder / "data").mkdir()
    return folder


@pytest.fixture(scope="module")
def client(house: Path) -> Iterator[httpx2.Client]:
    env = {"HF_HUB_OFFLINE": "1", "RKLLAMA_STORE_BUNDLED": "false"}
    with (
        Stack(house / "data", workers=0, env=env) as stack,
        httpx2.Client(base_url=stack.url, trust_env=False, timeout=60) as found,
    ):
        yield found


def files(house: Path) -> dict[str, bytes]:
    """Everything but what the data folder holds itself."""
    data = house / "data"
    return {
        str(path.relative_to(house)): path.read_bytes()
        for path in house.rglob("*")
        if path.is_file() and data not in path.parents
    }


def models(house: Path) -> set[str]:
    """Paths in the store."""
    root = house / "data" / "models"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


UP = "../../../../../../../../"
DIGESTS = [
    f"sha256:{UP}etc/passwd",
    f"sha256-{UP}etc/passwd",
    "sha256:" + "a" * 64 + "/../../secret.txt",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 64 + "\n",
    "sha256:" + "a" * 64 + "\x00",
    "sha512:" + "a" * 128,
    "%2e%2e%2f%2e%2e%2fsecret.txt",
    "..%2f..%2fsecret.txt",
    "..\\..\\secret.txt",
    "",
    ".",
    "..",
]


@pytest.mark.parametrize("method", ["HEAD", "POST"])
@pytest.mark.parametrize("digest", DIGESTS)
def test_a_digest_is_no_path(client: httpx2.Client, house: Path, method: str, digest: str) -> None:
    """CVE-2024-37032: what stood for a digest was joined into a path."""
    before = files(house), models(house)
    quoted = digest.replace("\n", "%0a").replace("\x00", "%00").replace("\\", "%5c")
    request = client.build_request(method, "/", content=OUTSIDE if method == "POST" else None)
    request.extensions["target"] = f"/api/blobs/{quoted}".encode()
    answer = client.send(request)

    # A path that can be shorter is sent there, on this server, and nowhere else.
    assert 300 <= answer.status_code < 500
    assert re.match(r"/(?!/)", answer.headers.get("location", "/api"))
    assert (files(house), models(house)) == before


def test_bytes_that_are_not_what_their_digest_says_are_not_kept(
    client: httpx2.Client, house: Path
) -> None:
    before = models(house)
    answer = client.post(f"/api/blobs/sha256:{'a' * 64}", content=OUTSIDE)

    assert answer.status_code == 400
    assert models(house) == before


NAMES = [
    "../secret.txt",
    f"{UP}etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    ".",
    "a/b/c/d/e",
    "a\\..\\b",
    "a\x00b",
    "a:../../b",
    "a:b/../../c",
    "file:///etc/passwd",
    "a" * 400,
    "registry.example/../../x",
    "https://evil.example/../x:y",
    "%2e%2e/%2e%2e/secret.txt",
]
FIELDS: dict[str, tuple[str, Any]] = {
    "/api/show": ("POST", lambda name: {"model": name}),
    "/api/pull": ("POST", lambda name: {"model": name, "stream": False}),
    "/api/push": ("POST", lambda name: {"model": name, "stream": False}),
    "/api/verify": ("POST", lambda name: {"model": name, "stream": False}),
    "/api/delete": ("DELETE", lambda name: {"model": name}),
    "/api/copy": ("POST", lambda name: {"source": name, "destination": "x"}),
    "/api/create": ("POST", lambda name: {"model": "x", "from": name, "stream": False}),
    "/api/chat": ("POST", lambda name: {"model": name, "messages": []}),
}


@pytest.mark.parametrize("path", FIELDS)
def test_a_name_is_no_path(client: httpx2.Client, house: Path, path: str) -> None:
    before = files(house), models(house)
    method, body = FIELDS[path]
    for name in NAMES:
        answer = client.request(method, path, json=body(name))

        assert answer.status_code >= 400, name
        assert answer.status_code != 500 or "internal error" not in answer.text, name
        assert OUTSIDE not in answer.text
        assert "root:" not in answer.text
    assert (files(house), models(house)) == before


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "a/../../escaped", "..", "a\x00b", "x/" * 60 + "y"]
)
def test_a_title_of_a_file_is_no_path(client: httpx2.Client, house: Path, name: str) -> None:
    """CVE-2024-45436 and the like: what is created is named by digests, whatever titles say."""
    content = b'{"model_type": "llama"}'
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert client.post(f"/api/blobs/{digest}", content=content).status_code in (200, 201)
    before = files(house)
    answer = client.post(
        "/api/create", json={"model": "x", "files": {name: digest}, "stream": False}
    )

    assert answer.status_code >= 400
    assert "internal error" not in answer.text
    assert files(house) == before
    assert not Path("/escaped").exists()


def test_images_are_bytes_and_never_addresses(client: httpx2.Client, house: Path) -> None:
    """Nothing is fetched for a client, and no file is read for one."""
    for image in (f"file://{house}/secret.txt", "http://169.254.169.254/", f"{house}/secret.txt"):
        message = {"role": "user", "content": "what is this?", "images": [image]}
        answer = client.post("/api/chat", json={"model": "x", "messages": [message]})
        part = {"type": "image_url", "image_url": {"url": image}}
        other = client.post(
            "/v1/chat/completions",
            json={"model": "x", "messages": [{"role": "user", "content": [part]}]},
        )

        assert 400 <= answer.status_code < 500
        assert 400 <= other.status_code < 500
