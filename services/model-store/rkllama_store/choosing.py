"""Which of a repository's files to pull for this board: decisions about their names alone.

A file is for the chip that its own name says, else its folder's, else the repository's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rkllama_board import FACTS, PLATFORM_VARIABLE, Soc, parse_soc
from rkllama_protocol.errors import InvalidJobError, UpstreamError

from rkllama_store import family_names
from rkllama_store.recipe import PROJECTOR_ENDING, SMALL_FILES
from rkllama_store.sources import is_file_name

RKLLM = ".rkllm"
GGUF = ".gguf"
DEFAULT_QUANTISATION = "q4_k_m"
SHOWN = 8
"""A refusal lists so many files."""

_PARTS = "|".join(sorted((part for facts in FACTS.values() for part in facts.parts), reverse=True))
_CHIP = re.compile(rf"(?<![a-z0-9])({_PARTS})(?![a-z0-9])")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.I)
_BESIDE = re.compile(r"(?<![a-z])(?:mmproj|imatrix|mtp)(?![a-z])")
"""Files that end in .gguf and are no language model by themselves."""


def chip_of(path: str, *, repo: str) -> Soc | None:
    """The chip that a file was made for, as far as names say."""
    for text in (*reversed(path.lower().split("/")), repo.lower()):
        if chips := {parse_soc(part) for part in _CHIP.findall(text)}:
            return chips.pop() if len(chips) == 1 else None
    return None


def weights(paths: Collection[str], *, repo: str, wanted: str, soc: Soc | None) -> str:
    """The path of the file with the weights.

    Args:
        paths: Every file of the repository.
        repo: Its name, `<user>/<repo>`.
        wanted: A file, with or without its folder and ending, a quantisation, or empty.
        soc: The chip that the model shall run on, or None if nobody knows.

    Raises:
        UpstreamError: There is no such file.
        InvalidJobError: It is for another chip, or nobody knows for which one it should be.
    """
    usable = sorted(path for path in paths if _is_model(path))
    split = sorted(path for path in paths if is_file_name(path) and _SPLIT.search(path))
    if wanted and not _matches(usable, wanted) and (parts := _matches(split, wanted)):
        raise UpstreamError(
            f"{parts[0]} in {repo} is one of several parts, and models are taken in one piece here: join "
            "them with llama.cpp's `llama-gguf-split --merge`, and create the model from the result"
        )
    if not usable:
        raise UpstreamError(
            f"there is no model for this product in {repo}: no .rkllm file, and no .gguf file in one piece"
        )
    if wanted:
        usable = _matching(usable, wanted, repo=repo)
    rkllm = [path for path in usable if path.lower().endswith(RKLLM)]
    gguf = [path for path in usable if path.lower().endswith(GGUF)]
    if rkllm and (soc is not None or not gguf):
        fitting = _for_chip(rkllm, repo=repo, soc=soc, refuse=not gguf)
        if fitting:
            return min(fitting, key=lambda path: _rank_rkllm(path, soc))
    return min(gguf, key=_rank_gguf)


def small_files(paths: Collection[str], *, beside: str) -> dict[str, str]:
    """The tokenizer's and the model's small files, name to path: from the weights' folder, or the root.

    By name: the same files in another order would be another manifest, and so another model.
    """
    folder = beside.rpartition("/")[0]
    found: dict[str, str] = {}
    for start in ("", f"{folder}/" if folder else ""):
        found |= {name: start + name for name in SMALL_FILES if start + name in paths}
    return dict(sorted(found.items()))


def vision_encoder(paths: Collection[str], *, beside: str, repo: str) -> str | None:
    """The one `.rknn` file that belongs to an RKLLM file; None if there is none, or no telling which."""
    chip = chip_of(beside, repo=repo)
    found = [
        path
        for path in paths
        if path.lower().endswith(PROJECTOR_ENDING)
        and is_file_name(path)
        and chip_of(path, repo=repo) in {chip, None}
    ]
    here = [path for path in found if path.rpartition("/")[0] == beside.rpartition("/")[0]]
    best = here or found
    return best[0] if len(best) == 1 else None


def _is_model(path: str) -> bool:
    lower = path.lower()
    if not is_file_name(path):
        return False
    if lower.endswith(GGUF):
        name = lower.rsplit("/", 1)[-1]
        return not _SPLIT.search(name) and not _BESIDE.search(name)
    return lower.endswith(RKLLM)


def _matching(usable: Sequence[str], wanted: str, *, repo: str) -> list[str]:
    if found := _matches(usable, wanted):
        return found
    raise UpstreamError(f"there is no {wanted} in {repo}; there are {_listed(usable)}")


def _matches(usable: Sequence[str], wanted: str) -> list[str]:
    asked = wanted.lower()
    for same in (
        lambda path: path == asked,
        lambda path: path.rsplit("/", 1)[-1] == asked,
        lambda path: path.rsplit("/", 1)[-1].rpartition(".")[0] == asked,
        lambda path: asked.replace("-", "_") in _quantisations(_SPLIT.sub(GGUF, path)),
    ):
        if found := [path for path in usable if same(path.lower())]:
            return found
    return []


def _quantisations(path: str) -> set[str]:
    """Every way to say how the file is quantised, in lower case."""
    name = path.rsplit("/", 1)[-1].lower()
    if name.endswith(RKLLM):
        quantised = family_names.quantisation(name)
        return {quantised, quantised.partition("_")[0]} - {""}
    words = re.split(r"[-.]", name.removesuffix(GGUF))
    return set(words[1:])


def _for_chip(files: Sequence[str], *, repo: str, soc: Soc | None, refuse: bool) -> list[str]:
    chips = {path: chip_of(path, repo=repo) for path in files}
    if soc is None:
        if len(set(chips.values())) > 1:
            raise InvalidJobError(
                f"{repo} has files for {_chips(chips.values())}, and it is not known which chip "
                f"they should be for: set {PLATFORM_VARIABLE}, or name one of {_listed(files)}"
            )
        return list(files)
    own = [path for path in files if chips[path] == soc]
    if fitting := own or [path for path in files if chips[path] is None]:
        return fitting
    if not refuse:
        return []
    if len(files) == 1:
        raise InvalidJobError(
            f"{files[0]} is for the {_chips(chips.values())}; models here are for the {soc}"
        )
    raise InvalidJobError(
        f"{repo} has files for {_chips(chips.values())} only; models here are for the {soc}"
    )


def _rank_rkllm(path: str, soc: Soc | None) -> tuple[int, int, float, str]:
    """The vendor's first kind of weights, optimised, with the least in higher precision."""
    preferred = FACTS[soc].quantisations if soc else ()
    quantised = family_names.quantisation(path)
    order = preferred.index(quantised) if quantised in preferred else len(preferred)
    optimised = family_names.optimisation(path) or 0
    return order, -optimised, family_names.hybrid_ratio(path) or 0.0, path.lower()


def _rank_gguf(path: str) -> tuple[bool, str]:
    return DEFAULT_QUANTISATION not in _quantisations(path), path.lower()


def _chips(found: Collection[Soc | None]) -> str:
    names = sorted(chip.value for chip in set(found) if chip is not None)
    return " and ".join([*names, "an unknown chip"] if None in found else names)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
