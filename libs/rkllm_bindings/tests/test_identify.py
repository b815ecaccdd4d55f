"""Which library it is, told from the file; what cannot be told is refused."""

from __future__ import annotations

import json
import platform
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import (
    FAMILIES,
    ContradictoryLibraryError,
    LibraryLoadError,
    LibraryNotFoundError,
    UnknownLibraryError,
    find_library,
    identify,
    load_library,
)
from rkllm_bindings._identify import families_with, git_blob_id
from rkllm_bindings._releases import OFFICIAL_BLOBS
from rkllm_bindings.emulator import build

AARCH64, X86_64 = 183, 62


def functions(family: str) -> list[str]:
    return list(FAMILIES[family].prototypes)


def fake_elf(
    exports: Iterable[str], content: bytes = b"", *, machine: int = AARCH64, bits: int = 64
) -> bytes:
    """A shared library that has nothing but a symbol table and some bytes."""
    strings = b"\0"
    symbols = bytes(24)
    for name in exports:
        symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1, 0, 0)
        strings += name.encode() + b"\0"
    symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 0, 0, 0)  # an import
    strings += b"malloc\0"
    head = 64
    at_strings = head + len(symbols)
    at_sections = at_strings + len(strings) + len(content)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, at_sections, 0, 64, 0, 0, 64, 3, 0
    )
    none = bytes(64)
    dynsym = struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, head, len(symbols), 2, 1, 8, 24)
    dynstr = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at_strings, len(strings), 0, 0, 1, 0)
    return header + symbols + strings + content + none + dynsym + dynstr


def marker(version: str) -> bytes:
    """As seen in the 1.2.0 library, with another version."""
    return (
        b"\0RKLLM SDK (version: "
        + version.encode()
        + b" | target: Linux | build: f8ca3ae8 2025-04-08 15:23:55)\0"
    )


@pytest.fixture
def fake(tmp_path: Path) -> Any:
    def write(exports: Iterable[str], content: bytes = b"", **keys: int) -> Path:
        path = tmp_path / "librkllmrt.so"
        path.write_bytes(fake_elf(exports, content, **keys))
        return path

    return write


@pytest.mark.parametrize(
    ("version", "family"),
    [(version, family.id) for family in FAMILIES.values() for version in family.versions],
)
def test_the_vendors_marker_names_the_family(fake: Any, version: str, family: str) -> None:
    known = identify(fake(functions(family), marker(version)))

    assert (family, version) == (known.family, known.version)
    assert not known.emulator
    assert known.machine == "aarch64"


def test_the_git_blob_table_is_that_of_the_facts(facts: dict[str, Any]) -> None:
    listed = {
        blob: (version, build)
        for family in facts.values()
        for version, builds in family["official_library_git_blob_sha1"].items()
        for build, blob in builds.items()
    }

    assert listed == OFFICIAL_BLOBS


def test_a_blob_id_is_gits() -> None:
    """`printf hello | git hash-object --stdin`"""
    assert git_blob_id(b"hello") == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


def test_an_official_library_is_known_by_its_bytes(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No marker was confirmed for 1.1: the identity of the file is all there is."""
    path = fake(functions("abi-1.1"))
    monkeypatch.setitem(OFFICIAL_BLOBS, git_blob_id(path.read_bytes()), ("1.1.2", "linux_aarch64"))

    known = identify(path)

    assert (known.family, known.version, known.official) == ("abi-1.1", "1.1.2", True)


def test_a_marker_that_contradicts_the_bytes_is_refused(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(functions("abi-1.3.0"), marker("1.3.0"))
    monkeypatch.setitem(OFFICIAL_BLOBS, git_blob_id(path.read_bytes()), ("1.2.3", "linux_aarch64"))

    with pytest.raises(ContradictoryLibraryError, match=r"1\.2\.3.*1\.3\.0.*RKLLAMA_RKLLM_ABI"):
        identify(path)


def test_two_markers_that_differ_are_refused(fake: Any) -> None:
    path = fake(functions("abi-1.3.0"), marker("1.2.3") + marker("1.3.0"))

    with pytest.raises(ContradictoryLibraryError):
        identify(path)


def test_the_version_beside_the_log_format_is_a_word_too(fake: Any) -> None:
    """As in the strings of the 1.2.1b1 library, for builds without a marker."""
    log = b"\0rkllm-runtime version: %s, rknpu driver version: %s, platform: %s\0"
    path = fake(functions("abi-1.2.1b1"), b"\0other\0" + b"1.2.1b1" + log)

    assert identify(path).family == "abi-1.2.1b1"


def test_the_version_of_the_embedded_matmul_library_is_no_word(fake: Any) -> None:
    content = b"\0rknn llm lib version: 2.3.3b0 (c54da5763@2025-04-18)\0"

    with pytest.raises(UnknownLibraryError, match="does not say which version"):
        identify(fake(functions("abi-1.2.0"), content))


@pytest.mark.parametrize("version", ["1.3.1", "1.2.4", "1.0.1", "2.0.0"])
def test_an_unknown_version_is_refused_by_name(fake: Any, version: str) -> None:
    """1.3.1 was seen in the field; its header was not, so its structures are not known."""
    path = fake(functions("abi-1.3.0"), marker(version))

    with pytest.raises(UnknownLibraryError, match=version + r".*RKLLAMA_RKLLM_ABI"):
        identify(path)


@pytest.mark.parametrize("abi", ["abi-1.3.0", "1.3.0"])
def test_a_newer_version_can_be_tried_by_override(fake: Any, abi: str) -> None:
    known = identify(fake(functions("abi-1.3.0"), marker("1.3.1")), abi=abi)

    assert (known.family, known.version) == ("abi-1.3.0", "1.3.1")
    assert "abi-1.3.0 was given" in known.evidence


def test_an_override_that_is_no_family_is_refused(fake: Any) -> None:
    with pytest.raises(UnknownLibraryError, match=r"RKLLAMA_RKLLM_ABI.*'abi-9'.*abi-1\.3\.0"):
        identify(fake(functions("abi-1.3.0"), marker("1.3.0")), abi="abi-9")


@pytest.mark.parametrize(
    ("version", "exported"),
    [
        ("1.1.4", "abi-1.3.0"),
        ("1.1.4", "abi-1.2.0"),
        ("1.2.0", "abi-1.2.1"),
        ("1.2.3", "abi-1.2.0"),
        ("1.3.0", "abi-1.1"),
        ("1.3.0", "abi-1.2.1b1"),
    ],
)
def test_functions_that_contradict_the_marker_refuse_it(
    fake: Any, version: str, exported: str
) -> None:
    with pytest.raises(ContradictoryLibraryError, match="RKLLAMA_RKLLM_ABI"):
        identify(fake(functions(exported), marker(version)))


def test_a_build_that_exports_only_some_functions_is_believed(fake: Any) -> None:
    """Somebody's small stand-in: what it lacks raises when it is asked for."""
    known = identify(fake(["rkllm_init", "rkllm_run", "rkllm_abort"], marker("1.3.0")))

    assert known.family == "abi-1.3.0"


def test_a_function_of_a_later_family_is_no_small_build(fake: Any) -> None:
    exports = ["rkllm_init", "rkllm_run", "rkllm_set_function_tools"]

    with pytest.raises(ContradictoryLibraryError, match="rkllm_set_function_tools"):
        identify(fake(exports, marker("1.2.0")))


def test_symbols_tell_the_families_that_they_can() -> None:
    assert families_with(functions("abi-1.1")) == ("abi-1.1",)
    assert families_with(functions("abi-1.2.0")) == ("abi-1.2.0", "abi-1.2.1b1")
    assert families_with([*functions("abi-1.3.0"), "rkllm_new"]) == ("abi-1.2.1", "abi-1.3.0")
    assert families_with(["rkllm_init"]) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just text", "no shared library"),
        (b"\x7fELF" + bytes(16), "no shared library"),
        (fake_elf(functions("abi-1.3.0"), marker("1.3.0"), bits=32), "32-bit"),
        (fake_elf(["main"], marker("1.3.0")), "exports no rkllm_init"),
    ],
)
def test_other_files_are_refused_with_what_they_are(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "librkllmrt.so"
    path.write_bytes(content)

    with pytest.raises(UnknownLibraryError, match=said):
        identify(path)


def test_a_damaged_symbol_table_is_not_believed_nor_fatal(tmp_path: Path) -> None:
    path = tmp_path / "librkllmrt.so"
    path.write_bytes(fake_elf(functions("abi-1.3.0"), marker("1.3.0"))[:-100])

    assert "its exported functions cannot be read" in identify(path).evidence


def test_the_emulator_says_what_it_is(family: str, libraries: dict[str, Path]) -> None:
    known = identify(libraries[family])

    assert known.emulator
    assert known.family == family
    assert not known.official


@pytest.mark.parametrize("version", ["1.1.4", "1.2.1", "1.3.0"])
def test_a_foreign_build_with_the_vendors_marker_is_taken_for_what_it_says(
    tmp_path: Path, version: str
) -> None:
    family = {"1.1.4": "abi-1.1", "1.2.1": "abi-1.2.1", "1.3.0": "abi-1.3.0"}[version]
    library = load_library(build(family, tmp_path, vendor_marker=version))

    assert (library.family.id, library.identity.version) == (family, version)
    assert not library.identity.emulator


@pytest.mark.parametrize(("family", "version"), [("abi-1.2.1", "1.3.0"), ("abi-1.3.0", "1.2.3")])
def test_defaults_that_contradict_the_marker_refuse_it(
    tmp_path: Path, family: str, version: str
) -> None:
    """Symbols cannot tell these two apart; the wrong layout would crash in the first run."""
    lying = build(family, tmp_path, vendor_marker=version)

    assert identify(lying).family != family
    with pytest.raises(ContradictoryLibraryError, match=r"defaults.*RKLLAMA_RKLLM_ABI"):
        load_library(lying)


def test_defaults_agree_with_every_family(family: str, libraries: dict[str, Path]) -> None:
    library = load_library(libraries[family])

    assert family in library.evidence[-1]


def test_a_library_is_found_where_it_was_named(tmp_path: Path) -> None:
    here = tmp_path / "librkllmrt.so"
    here.touch()

    assert find_library(here) == here
    assert find_library(places=[tmp_path / "no", here]) == here


def test_a_missing_library_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(
        LibraryNotFoundError, match=str(tmp_path / "a") + ".*" + str(tmp_path / "b")
    ):
        find_library(places=[tmp_path / "a", tmp_path / "b"])
    with pytest.raises(LibraryNotFoundError):
        identify(tmp_path / "a")


def test_a_library_for_another_machine_is_identified_but_not_loaded(fake: Any) -> None:
    other = AARCH64 if platform.machine() == "x86_64" else X86_64
    path = fake(functions("abi-1.3.0"), marker("1.3.0"), machine=other)

    assert identify(path).family == "abi-1.3.0"
    with pytest.raises(LibraryLoadError, match="built for"):
        load_library(path)


def test_what_the_loader_says_is_passed_on(fake: Any) -> None:
    own = X86_64 if platform.machine() == "x86_64" else AARCH64
    path = fake(functions("abi-1.3.0"), marker("1.3.0"), machine=own)

    with pytest.raises(LibraryLoadError, match="cannot be loaded"):
        load_library(path)


def test_importing_the_package_loads_no_library(run_alone: Any, tmp_path: Path) -> None:
    done = run_alone(tmp_path / "none.so", tmp_path / "none.rkllm")

    assert "LibraryNotFoundError" in done.stderr
    assert json.dumps(done.stdout) == '""'
