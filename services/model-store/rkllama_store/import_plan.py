"""What there is to take over in a models folder of RKLLAMA's: looked at, nothing is changed.

    DIR/Qwen2.5-3B/Qwen2.5-3B-rk3588-w8a8.rkllm    the weights, .rkllm or .gguf
    DIR/Qwen2.5-3B/Modelfile                       `KEY=VALUE`, or Ollama's grammar
    DIR/Qwen2.5-3B/tokenizer/tokenizer.json        or beside the weights
    DIR/other.gguf                                 a loose file

RKLLAMA fetched tokenizers when a model was first used. Here a model is whole or it is not taken: an
RKLLM file without a tokenizer is left, unless its Modelfile names the repository that has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rkllama_modelfile import Grammar, Modelfile, ModelfileError, decoded, detect, parse, to_create
from rkllama_modelfile import warnings as skipped_keys
from rkllama_protocol.errors import RkllamaError
from rkllama_protocol.messages import CreateRequest
from rkllama_protocol.names import InvalidNameError, ModelName

from rkllama_store import facts
from rkllama_store.recipe import (
    PROJECTOR_ENDING,
    SMALL_FILES,
    WEIGHTS_ENDINGS,
    Recipe,
    jinja,
    recipe,
)

MODELFILE = "Modelfile"
TOKENIZER_FOLDER = "tokenizer"
MODELFILE_BYTES = 2**20
HEAD_BYTES = 512

_LATER = "sha256:" + "0" * 64
"""Stands for digests that are not known yet."""
_TAKEN = frozenset({"template", "system", "license", "parameters", "messages", "tokenizer_repo"})
_BESIDE = re.compile(r"(?:^|[-_.])mmproj(?:[-_.]|$)")
"""GGUF files that are a part of another model."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that can be taken over."""

    label: str
    """Its folder, or its file, below the folder that is taken over."""
    name: ModelName | None
    """Its name so far: the folder's, or the file's; None if no name can be made of it."""
    weights: Path
    files: Mapping[str, Path]
    """What goes with the weights, by the name it gets."""
    adapter: Path | None
    body: Mapping[str, Any]
    """What the Modelfile says, as in a create."""
    notes: tuple[str, ...]
    """What was left out."""

    @property
    def advice(self) -> str:
        """What to do about a tokenizer that is not there."""
        return _advice(self.weights.parent, self.body.get("tokenizer_repo", ""))

    def recipe(self, name: ModelName, digests: Mapping[str, str]) -> Recipe:
        """What is to be made, with the digests of the files by their names.

        Raises:
            RkllamaError: The Modelfile asks for what is not possible.
        """
        adapters = {self.adapter.name: digests[self.adapter.name]} if self.adapter else {}
        files = {key: digest for key, digest in digests.items() if key not in adapters}
        fields = {**self.body, "files": files, "adapters": adapters}
        return recipe(CreateRequest(stream_id="import", model=name.full, **fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that cannot be taken over."""

    label: str
    reason: str


def survey(folder: Path) -> Iterator[Candidate | Left]:
    """Every model in `folder` and in the folders right below it, by name.

    Raises:
        OSError: `folder` cannot be read.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    yield from _in_folder(folder, folder)
    for path in below:
        if path.name != TOKENIZER_FOLDER:
            try:
                yield from _in_folder(path, folder)
            except OSError as error:
                yield Left(label=path.name, reason=f"cannot be read: {error.strerror}")


def _in_folder(here: Path, top: Path) -> Iterator[Candidate | Left]:
    weights = sorted(path for path in here.iterdir() if _is_weights(path))
    try:
        modelfile, notes = _modelfile(here / MODELFILE)
    except (ModelfileError, RkllamaError) as error:
        yield Left(label=_label(here / MODELFILE, top), reason=str(error))
        return
    if modelfile is None:
        for path in weights:
            loose = here == top or len(weights) > 1
            yield _candidate(path, top, Modelfile(), (), title=path.stem if loose else here.name)
        return
    # A path in it is of the machine, and the day, on which it was written.
    wanted = _last_part(modelfile.sources[-1])
    if wanted not in {path.name for path in weights}:
        reason = f"FROM names {wanted}, which is not there as a .rkllm or .gguf file"
        yield Left(label=_label(here / MODELFILE, top), reason=reason)
    for path in weights:
        if path.name == wanted:
            yield _candidate(path, top, modelfile, notes, title=here.name)
        elif here == top:
            yield _candidate(path, top, Modelfile(), (), title=path.stem)
        else:
            yield Left(label=_label(path, top), reason=f"its Modelfile is for {wanted}")


def _candidate(
    weights: Path, top: Path, modelfile: Modelfile, notes: tuple[str, ...], *, title: str
) -> Candidate | Left:
    here = weights.parent
    named = bool(modelfile.sources)
    label = _label(weights if here == top and not named else here, top)
    alone = sum(_is_weights(path) for path in here.iterdir()) == 1
    # Among loose files there is no telling whose a tokenizer is.
    files = dict(_small_files(here)) if alone or named or here != top else {}
    lacking = weights.name.endswith(".rkllm") and facts.TOKENIZER_FILE not in files
    if lacking and not modelfile.tokenizer_repo:
        return Left(label=label, reason=f"no {facts.TOKENIZER_FILE}: {_advice(here, '')}")
    encoders = [path for path in here.iterdir() if path.name.endswith(PROJECTOR_ENDING)]
    if len(encoders) == 1 and (alone or named):
        files[encoders[0].name] = encoders[0]
    elif encoders:
        notes = (*notes, f"no telling which {PROJECTOR_ENDING} file belongs to it: none was taken")
    adapters = [here / _last_part(text) for text in modelfile.adapters]
    candidate = Candidate(
        label=label,
        name=_name(title),
        weights=weights,
        files=files,
        adapter=adapters[0] if adapters else None,
        body={key: value for key, value in to_create(modelfile).items() if key in _TAKEN},
        notes=notes,
    )
    if reason := _objection(candidate, adapters):
        return Left(label=label, reason=reason)
    return candidate


def _objection(candidate: Candidate, adapters: list[Path]) -> str:
    """Why a candidate cannot be taken over, as far as a look at it tells; or empty."""
    if len(adapters) > 1:
        return "only one adapter is currently supported"
    if missing := [path.name for path in adapters if not path.is_file()]:
        return f"ADAPTER names {missing[0]}, which is not there"
    if _is_text(candidate.weights):
        return f"{candidate.weights.name} is a text and no model: its download has failed"
    names = [candidate.weights.name, *candidate.files, *(path.name for path in adapters)]
    try:
        candidate.recipe(ModelName(model="m"), dict.fromkeys(names, _LATER))
    except RkllamaError as error:
        return error.message
    except ValueError as error:
        return f"its Modelfile cannot be used: {error}"
    return ""


def _modelfile(path: Path) -> tuple[Modelfile | None, tuple[str, ...]]:
    """What the file says, if it is there, and what of it is left out.

    Raises:
        ModelfileError: It cannot be used.
    """
    if not path.is_file():
        return None, ()
    with path.open("rb") as file:
        data = file.read(MODELFILE_BYTES + 1)
    if len(data) > MODELFILE_BYTES:
        raise ModelfileError(f"it has more than {MODELFILE_BYTES} bytes")
    text = decoded(data)
    modelfile = parse(text)
    to_create(modelfile)
    notes = skipped_keys(modelfile)
    if modelfile.renderer or modelfile.parser:
        notes = (*notes, "RENDERER and PARSER mean nothing here and were left out")
    if detect(text) is Grammar.PREDECESSOR and modelfile.template:
        try:
            jinja(modelfile.template)
        except RkllamaError as error:
            # It was never more than shown; the tokenizer's own template was what counted.
            notes = (*notes, f"TEMPLATE was left out: {error.message}")
            modelfile = _without_template(modelfile)
    return modelfile, notes


def _without_template(modelfile: Modelfile) -> Modelfile:
    fields = {name: getattr(modelfile, name) for name in Modelfile.__slots__}
    return Modelfile(**{**fields, "template": ""})


def _small_files(here: Path) -> Iterator[tuple[str, Path]]:
    """The tokenizer's and the model's small files; those in the tokenizer's own folder count more."""
    for name in sorted(SMALL_FILES):
        for path in (here / TOKENIZER_FOLDER / name, here / name):
            if path.is_file():
                yield name, path
                break


def _advice(here: Path, repo: str) -> str:
    whose = repo or "the model it was converted from"
    return f"put the tokenizer files of {whose} into {here / TOKENIZER_FOLDER} and import again"


def _is_weights(path: Path) -> bool:
    return (
        path.name.endswith(WEIGHTS_ENDINGS)
        and path.is_file()
        and not _BESIDE.search(path.name.lower())
    )


def _is_text(path: Path) -> bool:
    """Whether a file is an error page, or the pointer that git keeps in a large file's place."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _label(path: Path, top: Path) -> str:
    return str(path.relative_to(top)) if path != top else str(top)


def _name(title: str) -> ModelName | None:
    for text in (title, _NOT_IN_NAMES.sub("-", title).strip("-.")[:80]):
        try:
            return ModelName.parse(text)
        except InvalidNameError:
            continue
    return None
