"""`rkllama create`: a Modelfile, the local files that it names, and the request they become.

FROM and ADAPTER that are paths, relative to the Modelfile's folder, are hashed and brought to the
server as blobs, unless it has them; a FROM that is no path is the name of a model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rkllama_modelfile import Modelfile, ModelfileError, decoded, parse, to_create

from rkllama_cli.api import Api
from rkllama_cli.bars import Bars
from rkllama_cli.errors import CliError
from rkllama_cli.wire import Json, Progress

_CHUNK_BYTES = 1 << 20
_WEIGHTS = (".rkllm", ".gguf", ".safetensors", ".rknn", ".bin")
_BESIDE = (".json", ".jinja", ".txt", ".model")
"""What a folder holds beside weights: tokenizer, configuration, template, licence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A Modelfile, and the files on this machine that it means."""

    modelfile: Modelfile
    files: Mapping[str, Path]
    """Name, relative to the root that they share, to path."""
    adapters: Mapping[str, Path]


def read_recipe(data: bytes, folder: Path) -> Recipe:
    """A Modelfile's bytes, with its paths looked up from `folder`.

    Raises:
        CliError: It is no Modelfile, or a file is missing.
    """
    try:
        modelfile = parse(decoded(data))
    except ModelfileError as error:
        raise CliError(f"the Modelfile cannot be read: {error}") from error
    found = {source: _local(source, folder) for source in modelfile.sources}
    paths = [path for path in found.values() if path is not None]
    if paths and None in found.values():
        raise CliError("the Modelfile names a model and a file in FROM; it can only build on one")
    adapters = [_adapter(text, folder) for text in modelfile.adapters]
    return Recipe(
        modelfile=modelfile,
        files=named(file for path in paths for file in _files(path)),
        adapters=named(file for path in adapters for file in _files(path)),
    )


def named(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names relative to the folder that they share."""
    whole = [path.absolute() for path in dict.fromkeys(paths)]
    if not whole:
        return {}
    root = Path(os.path.commonpath([path.parent for path in whole]))
    return {path.relative_to(root).as_posix(): path for path in whole}


def body(recipe: Recipe, digests: Mapping[Path, str]) -> Json:
    """The body of a `POST /api/create`, but for the new model's name.

    Raises:
        CliError: A value of the Modelfile cannot be taken.
    """
    try:
        return to_create(
            recipe.modelfile,
            files={name: digests[path] for name, path in recipe.files.items()},
            adapters={name: digests[path] for name, path in recipe.adapters.items()},
        )
    except ModelfileError as error:
        raise CliError(f"the Modelfile cannot be taken: {error}") from error


def check(recipe: Recipe) -> None:
    """Raises as `body` would."""
    unknown = dict.fromkeys([*recipe.files.values(), *recipe.adapters.values()], "")
    body(recipe, unknown)


def upload(api: Api, recipe: Recipe, bars: Bars) -> dict[Path, str]:
    """Have the server hold every file; the digests by path.

    Raises:
        CliError: A file cannot be read, or the server refused it.
    """
    digests: dict[Path, str] = {}
    for path in dict.fromkeys([*recipe.files.values(), *recipe.adapters.values()]):
        try:
            digests[path] = _upload(api, path, bars)
        except OSError as error:
            raise CliError(f"cannot read {path}: {error.strerror}") from error
    return digests


def _upload(api: Api, path: Path, bars: Bars) -> str:
    size_bytes = path.stat().st_size
    found = hashlib.sha256()
    for chunk in _chunks(path, size_bytes, f"hashing {path.name}", bars):
        found.update(chunk)
    digest = f"sha256:{found.hexdigest()}"
    if not api.has_blob(digest):
        chunks = _chunks(path, size_bytes, f"uploading {path.name}", bars)
        api.upload_blob(digest, chunks, size_bytes=size_bytes)
    return digest


def _chunks(path: Path, size_bytes: int, status: str, bars: Bars) -> Iterator[bytes]:
    completed = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
            completed += len(chunk)
            bars.show(Progress(status=status, total=size_bytes, completed=completed))


def _local(source: str, folder: Path) -> Path | None:
    """The path that a FROM means, or None for the name of a model."""
    path = _path(source, folder)
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or ("/" not in source and source.endswith(_WEIGHTS)):
        raise CliError(f"FROM {source}: there is no such file")
    return None


def _adapter(source: str, folder: Path) -> Path:
    path = _path(source, folder)
    if not path.exists():
        raise CliError(f"ADAPTER {source}: there is no such file")
    return path


def _path(source: str, folder: Path) -> Path:
    return folder / Path(source).expanduser()


def _files(path: Path) -> list[Path]:
    """A file, or the files of a folder that make a model."""
    if not path.is_dir():
        return [path]
    endings = _WEIGHTS + _BESIDE
    found = sorted(
        file
        for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(endings)
    )
    if not any(file.name.lower().endswith(_WEIGHTS) for file in found):
        raise CliError(f"the folder {path} holds no model")
    return found
