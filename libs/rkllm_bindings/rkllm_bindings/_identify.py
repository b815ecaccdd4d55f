"""Tells which version a librkllmrt.so is: no function of it does.

    identity of the file (git blob id)     proof, for the official libraries
    marker string in the file              the library's own word
    version text beside a log format       a weaker word, for builds without a marker
    exported functions                     must not contradict the word; cannot tell 1.2.1 from
    1.3.0 documented defaults (_library.py)      the same, once it is loaded

Without a word, or with one that is contradicted, the library is refused: a wrong layout is silent
when it loads and a crash, or worse, when it runs. The caller may name the family himself.
A version that is newer than those known here is refused too: symbols and defaults that agree with
abi-1.3.0 are necessary but do not cover the structures of a run.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rkllm_bindings import _elf
from rkllm_bindings._abi import FAMILIES, FAMILY_OF_VERSION
from rkllm_bindings._releases import OFFICIAL_BLOBS
from rkllm_bindings.errors import (
    ContradictoryLibraryError,
    LibraryNotFoundError,
    UnknownLibraryError,
)

OVERRIDE = "RKLLAMA_RKLLM_ABI"
"""The variable that callers read and pass as `abi`; named in every refusal. Not read here."""

# Real ones go on with target and build; what matters here is the version.
_VENDOR_MARKER = re.compile(rb"RKLLM SDK \(version: ([^ |)\x00]{1,32})")
_EMULATOR_MARKER = re.compile(
    rb"RKLLAMA RKLLM EMULATOR \(version: ([\w.]{1,32}) \| family: ([\w.-]{1,32})\)"
)
_LOG_FORMAT = b"rkllm-runtime version: %s, rknpu driver version: %s, platform: %s"
_NEIGHBOURHOOD_BYTES = 512
_BARE_VERSION = re.compile(rb"(?<=\x00)(\d+\.\d+\.\d+(?:b\d+)?)(?=\x00)")
_NEW_IN_1_2_1 = frozenset(
    {"rkllm_set_function_tools", "rkllm_get_kv_cache_size", "rkllm_set_cross_attn_params"}
)
_NEW_IN_1_2_0 = frozenset({"rkllm_set_chat_template", "rkllm_clear_kv_cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is known of a library before it is loaded."""

    path: Path
    family: str
    """ABI family, such as `abi-1.3.0`."""
    version: str | None
    """Runtime version in the library's own words; None if it has none and the family was given."""
    emulator: bool
    """It is this package's emulator: whatever it does proves nothing about a board."""
    official: bool
    """Byte for byte a library of a release tag."""
    machine: str
    """What it was built for, as `platform.machine()` names it."""
    exports: frozenset[str] | None
    evidence: tuple[str, ...]
    """What was found, one sentence each, for people."""


@dataclass(frozen=True, slots=True)
class _Word:
    """One source's answer."""

    version: str
    source: str
    family: str | None
    emulator: bool = False
    official: bool = False


def identify(path: Path, *, abi: str | None = None) -> Identity:
    """Tell which version the library at `path` is, by reading the file.

    Args:
        path: The library; also one for another machine.
        abi: A family id or a runtime version that overrides what the file says.

    Raises:
        LibraryNotFoundError: There is no such file.
        UnknownLibraryError: It is no 64-bit library, says no version, or an unknown one.
        ContradictoryLibraryError: What it says disagrees.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise LibraryNotFoundError(f"there is no library at {path}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        elf = _elf.read(data)
        if elf is None or elf.bits != 64:
            what = "no shared library" if elf is None else f"a {elf.bits}-bit library"
            raise UnknownLibraryError(f"{path} is {what}; a 64-bit librkllmrt.so is needed")
        words = _words(data)
    evidence = [f"{word.source} says {word.version}" for word in words]
    if elf.exports is None:
        evidence.append("its exported functions cannot be read")
    elif "rkllm_init" not in elf.exports or "rkllm_run" not in elf.exports:
        raise UnknownLibraryError(f"{path} exports no rkllm_init and rkllm_run: no librkllmrt.so")
    family = _family_named(abi) if abi is not None else _family_told(path, words)
    if abi is not None:
        evidence.append(f"{family} was given")
    if elf.exports is not None:
        evidence.append(_agree(path, family, elf.exports, overridden=abi is not None))
    return Identity(
        path=path,
        family=family,
        version=words[0].version if words else None,
        emulator=any(word.emulator for word in words),
        official=any(word.official for word in words),
        machine=elf.machine,
        exports=elf.exports,
        evidence=tuple(evidence),
    )


def git_blob_id(data: bytes | mmap.mmap) -> str:
    """The name that git gives to a file with these bytes."""
    # Git's identity of a file, not a defence against anybody.
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def families_with(exports: Collection[str]) -> tuple[str, ...]:
    """The families whose every function is exported and whose successors' are not.

    Empty for a library that exports only some: it may be any.
    """
    names = frozenset(exports)
    if names & _NEW_IN_1_2_1:
        newest = "abi-1.2.1"
    elif names & _NEW_IN_1_2_0:
        newest = "abi-1.2.0"
    else:
        newest = "abi-1.1"
    wanted = frozenset(FAMILIES[newest].prototypes)
    if not wanted <= names:
        return ()
    return tuple(
        family.id for family in FAMILIES.values() if frozenset(family.prototypes) == wanted
    )


def _words(data: mmap.mmap) -> list[_Word]:
    """What the file says of its version, the strongest first."""
    words = []
    official = OFFICIAL_BLOBS.get(git_blob_id(data))
    if official is not None:
        version, build = official
        source = f"the git blob id (official {build} build)"
        words.append(_Word(version, source, FAMILY_OF_VERSION[version], official=True))
    for found in _EMULATOR_MARKER.finditer(data):
        version, family = found[1].decode(), found[2].decode()
        words.append(_Word(version, "the emulator's marker", family, emulator=True))
    for text in dict.fromkeys(found[1] for found in _VENDOR_MARKER.finditer(data)):
        version = text.decode("ascii", "replace")
        words.append(_Word(version, "the SDK marker", FAMILY_OF_VERSION.get(version)))
    return words or _beside_log_format(data)


def _beside_log_format(data: mmap.mmap) -> list[_Word]:
    """The bare version literal that 1.2.1b1 has next to the format of its init line."""
    at = data.find(_LOG_FORMAT)
    if at < 0:
        return []
    start = max(at - _NEIGHBOURHOOD_BYTES, 0)
    around = data[start : at + len(_LOG_FORMAT) + _NEIGHBOURHOOD_BYTES]
    versions = {found.decode() for found in _BARE_VERSION.findall(around)}
    if len(versions) != 1:
        return []
    version = versions.pop()
    return [_Word(version, "the text beside the log format", FAMILY_OF_VERSION.get(version))]


def _family_named(abi: str) -> str:
    family = FAMILY_OF_VERSION.get(abi, abi)
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UnknownLibraryError(f"{OVERRIDE} names no ABI family: {abi!r} is none of {known}")
    return family


def _family_told(path: Path, words: list[_Word]) -> str:
    if not words:
        raise UnknownLibraryError(
            f"{path} does not say which version it is: no SDK marker, no known git blob id. "
            f"If you know, set {OVERRIDE} to one of {', '.join(FAMILIES)}"
        )
    told = "; ".join(f"{word.source} says {word.version}" for word in words)
    families = {word.family for word in words}
    if len(families) > 1:
        raise ContradictoryLibraryError(
            f"{path} contradicts itself: {told}. If you know which it is, set {OVERRIDE} "
            f"to one of {', '.join(FAMILIES)}"
        )
    family = families.pop()
    if family is None or family not in FAMILIES:
        newest = list(FAMILY_OF_VERSION)[-1]
        raise UnknownLibraryError(
            f"{path}: {told}, which is not known here (1.1.0 to {newest} are). Its structures may "
            f"have changed; to try it all the same, set {OVERRIDE} to one of {', '.join(FAMILIES)}"
        )
    return family


def _agree(path: Path, family: str, exports: frozenset[str], *, overridden: bool) -> str:
    """A sentence if the exported functions allow the family; else it is refused."""
    possible = families_with(exports)
    later = sorted(exports & (_NEW_IN_1_2_0 | _NEW_IN_1_2_1) - frozenset(_functions(family)))
    if not possible:
        sentence = f"it exports only some functions of {family}"
    else:
        sentence = f"its exported functions are those of {' or '.join(possible)}"
    if (possible and family not in possible) or later:
        if overridden:
            return f"{sentence}, which does not fit {family}"
        extra = f", and it has {', '.join(later)}" if later else ""
        raise ContradictoryLibraryError(
            f"{path} says that it is {family}, but {sentence}{extra}. "
            f"If you know which it is, set {OVERRIDE}"
        )
    return sentence


def _functions(family: str) -> Collection[str]:
    return FAMILIES[family].prototypes
