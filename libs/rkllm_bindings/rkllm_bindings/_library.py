"""Finds the vendor library, loads it, and types its functions. Nothing is loaded at import."""

from __future__ import annotations

import ctypes as c
import os
import platform
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkllm_bindings._abi import FAMILIES
from rkllm_bindings._abi.family import Family
from rkllm_bindings._identify import OVERRIDE, Identity, identify
from rkllm_bindings.errors import (
    ContradictoryLibraryError,
    LibraryLoadError,
    LibraryNotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from rkllm_bindings._abi.family import CType

STANDARD_PLACES = (
    Path("/rkllm/librkllmrt.so"),
    Path("/usr/lib/librkllmrt.so"),
    Path("/usr/lib64/librkllmrt.so"),
    Path("/usr/lib/aarch64-linux-gnu/librkllmrt.so"),
    Path("/usr/local/lib/librkllmrt.so"),
    Path("/opt/rkllm/lib/librkllmrt.so"),
)
"""A folder that is mounted into a container; where the vendor's README installs it; where images and packages put it."""

_TOP_P_0_9 = 0x3F666666
_CPU_MASKS = (0xF0, 0x0F)
_DEFAULT_CPUS = 4


class _Oversized(c.Structure):
    """Room for whatever RKLLMParam the callee returns: more than 16 bytes, so by hidden pointer."""

    _fields_ = (("at", c.c_uint8 * 512),)


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library whose family is known. Never unloaded: it keeps threads of its own."""

    identity: Identity
    family: Family
    evidence: tuple[str, ...]
    """The identity's, and what its defaults said once it was loaded."""
    _functions: dict[str, Callable[..., Any]]

    def function(self, name: str) -> Callable[..., Any]:
        """The typed function.

        Raises:
            UnsupportedError: The family, or this build of it, has no such function.
        """
        if name not in self._functions:
            raise UnsupportedError(name, self.family.id)
        return self._functions[name]

    def has(self, name: str) -> bool:
        """Whether the function is there."""
        return name in self._functions


def find_library(explicit: Path | None = None, *, places: Iterable[Path] = STANDARD_PLACES) -> Path:
    """Where the library is: the explicit path, or the first standard place that has one.

    Raises:
        LibraryNotFoundError: It is in none of them; the sentence names them.
    """
    looked = [explicit] if explicit is not None else list(places)
    for path in looked:
        if path.is_file():
            return path
    where = ", ".join(map(str, looked))
    raise LibraryNotFoundError(f"no librkllmrt.so found; looked at {where}")


def load_library(path: Path, *, abi: str | None = None) -> Library:
    """Identify, load and type the library at `path`.

    Args:
        path: The library.
        abi: Overrides identification (a family id or a runtime version).

    Raises:
        LibraryError: It is missing, unknown, contradictory, built for another machine, or the
            loader refused it (often libgomp1 is missing: rkllm needs it from the system).
    """
    identity = identify(path, abi=abi)
    if identity.machine != platform.machine():
        raise LibraryLoadError(
            f"{path} was built for {identity.machine}, this machine is {platform.machine()}"
        )
    try:
        # An absolute path: dlopen searches the system's places for a bare name.
        loaded = c.CDLL(str(path.resolve()), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise LibraryLoadError(f"{path} cannot be loaded: {error}") from error
    family = FAMILIES[identity.family]
    evidence = identity.evidence
    guess, sentence = defaults_say(loaded)
    if guess is not None and family.id not in guess and abi is None:
        raise ContradictoryLibraryError(
            f"{path} says that it is {family.id}, but {sentence}. "
            f"If you know which it is, set {OVERRIDE}"
        )
    return Library(identity, family, (*evidence, sentence), _bind(loaded, family))


def defaults_say(loaded: c.CDLL) -> tuple[tuple[str, ...] | None, str]:
    """Which families the documented defaults stand for, at the offsets where those differ.

    None if they fit no family's: builds of others may have defaults of their own. The call needs no
    NPU. Only offsets below 184, the smallest RKLLMParam, are read: what lies behind is stale.
    """
    try:
        create = loaded["rkllm_createDefaultParam"]
    except AttributeError:
        return None, "it has no rkllm_createDefaultParam to ask for defaults"
    create.argtypes = []
    create.restype = _Oversized
    raw = bytes(create().at)
    (at_20,) = struct.unpack_from("<I", raw, 20)
    if at_20 == _TOP_P_0_9:
        return ("abi-1.1",), "its defaults are laid out as in abi-1.1 (top_p 0.9 at 20)"
    for cpus_at, mask_at, families in (
        (65, 68, ("abi-1.3.0",)),
        (93, 96, ("abi-1.2.0", "abi-1.2.1b1", "abi-1.2.1")),
    ):
        (mask,) = struct.unpack_from("<I", raw, mask_at)
        if raw[cpus_at] == _DEFAULT_CPUS and mask in _CPU_MASKS:
            sentence = (
                f"its defaults are laid out as in {' or '.join(families)} (CPUs at {cpus_at})"
            )
            return families, sentence
    return None, "its defaults fit no documented ones"


def _bind(loaded: c.CDLL, family: Family) -> dict[str, Callable[..., Any]]:
    functions: dict[str, Callable[..., Any]] = {}
    for name, (result, arguments) in family.prototypes.items():
        try:
            function = loaded[name]
        except AttributeError:
            continue
        _type(function, result, arguments)
        functions[name] = function
    missing = {"rkllm_init", "rkllm_run", "rkllm_abort", "rkllm_destroy"} - functions.keys()
    if missing:
        raise LibraryLoadError(f"the library lacks {', '.join(sorted(missing))}")
    return functions


def _type(function: Any, result: CType, arguments: list[CType]) -> None:
    """Without this a handle is cut to 32 bits, and a result is taken for an int."""
    function.restype = result
    function.argtypes = arguments
