"""The vendor's library from a source on loopback: kept only if it is byte for byte the release's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rkllm_bindings import vendor
from rkllm_bindings._identify import git_blob_id
from rkllm_bindings.vendor import VendorError

LAYOUTS = json.loads((Path(__file__).parent / "layouts.json").read_text())
DATA = b"\x7fELF and the rest of it"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """Serves a file for the release 1.3.0, and nothing for others; a URL as `--source` takes it."""
    served = tmp_path / "served" / "1.3.0"
    served.mkdir(parents=True)
    (served / vendor.NAME).write_bytes(DATA)
    handler = partial(SimpleHTTPRequestHandler, directory=str(served.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{{version}}/{vendor.NAME}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("version", "blob"),
    [
        (version, builds["linux_aarch64"])
        for family in LAYOUTS["families"]
        for version, builds in family["official_library_git_blob_sha1"].items()
    ],
)
def test_every_release_has_the_blob_of_the_layout_facts(version: str, blob: str) -> None:
    assert vendor.blob_of(version) == blob


def test_a_file_with_the_expected_blob_is_kept(source: str, tmp_path: Path) -> None:
    path = vendor.fetch("1.3.0", tmp_path / "lib", source=source, blob=git_blob_id(DATA))

    assert path == tmp_path / "lib" / vendor.NAME
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_any_other_file_is_refused_and_leaves_nothing(source: str, tmp_path: Path) -> None:
    with pytest.raises(VendorError, match=f"its git blob id is {git_blob_id(DATA)}, not 34167b32"):
        vendor.fetch("1.3.0", tmp_path / "lib", source=source)

    assert not (tmp_path / "lib").exists()


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.2.3", "404"), ("9.9.9", "is not known here; 1.1.0, ")],
    ids=["not there", "no release"],
)
def test_what_does_not_come_is_told(source: str, tmp_path: Path, version: str, words: str) -> None:
    with pytest.raises(VendorError, match=words):
        vendor.fetch(version, tmp_path / "lib", source=source)


def test_only_web_addresses_are_sources(tmp_path: Path) -> None:
    with pytest.raises(VendorError, match="is no address"):
        vendor.fetch("1.3.0", tmp_path, source="file:///etc/passwd")


def test_the_command_says_why_in_one_line(source: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "rkllm_bindings.vendor", "1.3.0", str(tmp_path / "lib")]
    run = partial(subprocess.run, check=False, capture_output=True, text=True)
    refused = run([*argv, "--source", source])
    kept = run([*argv, "--source", source, "--blob", git_blob_id(DATA)])

    assert refused.returncode == 1
    assert refused.stderr.startswith("rkllm: ")
    assert refused.stderr.count("\n") == 1
    assert (kept.returncode, kept.stdout) == (0, f"{tmp_path / 'lib' / vendor.NAME}\n")
