"""The vendor's library at build time: from a source on loopback, with an emulator in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rkllm_bindings._identify import git_blob_id

from tests.compose.composed import docker
from tests.emulated import library

IMAGE = "rkllama-test-library"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library("abi-1.3.0", tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def source(built: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(built.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{built.name}"
        server.shutdown()
        thread.join()


@pytest.fixture
def image() -> Iterator[str]:
    yield IMAGE
    docker("image", "rm", "--force", IMAGE, check=False)


def build(**arguments: str) -> str:
    """What a build of the library's stage says; the host's network, for the source is on its loopback."""
    pairs = (("--build-arg", f"{name}={value}") for name, value in arguments.items())
    flags = ["--progress", "plain", "--network", "host", "--target", "library", "--tag", IMAGE]
    dockerfile = ("--file", "services/npu-worker/Dockerfile")
    return docker(
        "build", *flags, *dockerfile, *(flag for pair in pairs for flag in pair), ".", check=False
    )


def test_a_library_with_the_expected_blob_is_built_in(image: str, source: str, built: Path) -> None:
    said = build(RKLLM_SOURCE=source, RKLLM_BLOB=git_blob_id(built.read_bytes()))
    assert "/opt/rkllm/lib/librkllmrt.so" in said, said
    identify = "from rkllm_bindings import find_library, identify; print(identify(find_library()))"
    found = docker("run", "--rm", "--env", "PYTHONPATH=/src", image, "python3", "-c", identify)

    assert "path=PosixPath('/opt/rkllm/lib/librkllmrt.so'), family='abi-1.3.0'" in found


def test_any_other_file_fails_the_build(image: str, source: str, built: Path) -> None:
    said = build(RKLLM_SOURCE=source, RKLLM_BLOB="34167b32f99cb7ab19e21fb579fb750d96b878f1")

    assert f"its git blob id is {git_blob_id(built.read_bytes())}, not 34167b32" in said
    assert not docker("image", "ls", "--quiet", image)


def test_none_is_built_in_where_none_is_asked_for(image: str) -> None:
    assert "no RKLLM library in this image" in build(RKLLM_VERSION="")
