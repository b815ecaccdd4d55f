"""`python -m rkllama_store.importer DIR`: takes over a models folder of RKLLAMA's.

It works on the store's folder itself, under the store's own lock, and so while no store runs. That is
the simple way that is safe: files can be linked instead of sent, with the rights of whoever calls,
one at a time and through the same code as a create; and no client sees a model before all of it is
there. What is in DIR is read, and linked or copied; it is never moved, changed or deleted. A hub is
asked for nothing but tokenizers that are not in DIR.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry
from rkllama_protocol.errors import (
    InvalidModelError,
    ModelNotFoundError,
    RkllamaError,
    UpstreamError,
)
from rkllama_protocol.names import Digest, ModelName
from rkllama_service.process import SetupError
from rkllama_service.settings import read, read_shared
from rkllama_transfer.threads import Interrupt, in_thread

from rkllama_store import catalog, facts, family_names, folder
from rkllama_store.assembling import override, take_files
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.draft import Draft
from rkllama_store.hub import Hub
from rkllama_store.hub_models import HubModels
from rkllama_store.import_plan import Candidate, Left, survey
from rkllama_store.library import Library
from rkllama_store.manifests import Layer, Manifest, Manifests
from rkllama_store.settings import HubSettings
from rkllama_store.transfer import Transfers

SMALL_BYTES = 64 * 2**20
"""More than any tokenizer has."""
REFUSED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A model that is in the store now."""

    label: str
    names: tuple[ModelName, ...]
    size: int
    new: bool
    notes: tuple[str, ...]


class Importer:
    """Takes candidates into one store, whose folder the caller owns."""

    def __init__(self, blobs: Blobs, library: Library, hub_models: HubModels) -> None:
        self._blobs = blobs
        self._library = library
        self._hub_models = hub_models

    async def take(self, candidate: Candidate) -> Taken | Left:
        """Make a model of the candidate; whatever is wrong with it, nothing of it stays then."""
        held: set[Digest] = set()
        try:
            with self._blobs.holding() as hold:

                def add(digest: Digest) -> None:
                    held.add(digest)
                    hold.add(digest)

                manifest = await self._assemble(candidate, Hold(add))
                return await in_thread(lambda: self._publish(candidate, manifest))
        except RkllamaError as error:
            return Left(label=candidate.label, reason=error.message)
        finally:
            await in_thread(lambda: self._library.discard(held))

    async def _assemble(self, candidate: Candidate, hold: Hold) -> Manifest:
        def placed(layer: Layer, *, new: bool) -> None:
            """Nobody watches."""

        digests = {candidate.weights.name: await self._adopted(candidate.weights, hold)}
        if candidate.adapter is not None:
            digests[candidate.adapter.name] = await self._adopted(candidate.adapter, hold)
        for name, path in candidate.files.items():
            if path.stat().st_size > SMALL_BYTES or name.endswith(".rknn"):
                digests[name] = await self._adopted(path, hold)
            else:
                digests[name] = await self._copied(name, path, hold)
        recipe = candidate.recipe(candidate.name or ModelName(model="m"), digests)
        draft = Draft(self._library, self._blobs, hold, placed=placed)

        async def add_tokenizer() -> None:
            try:
                await self._hub_models.add_small_files(
                    recipe.tokenizer_repo, draft, hold, lambda _: None
                )
            except (UpstreamError, InvalidModelError) as error:
                raise UpstreamError(f"{error.message}: {candidate.advice}") from error

        known = add_tokenizer if recipe.tokenizer_repo else None
        await take_files(draft, self._blobs, hold, recipe.files, add_tokenizer=known)
        await override(draft, self._blobs, hold, recipe)
        return await draft.seal()

    async def _adopted(self, path: Path, hold: Hold) -> str:
        interrupt = Interrupt()
        digest, _ = await in_thread(
            lambda: self._blobs.adopt(path, progress=lambda _: interrupt.check()),
            interrupt=interrupt,
        )
        hold.add(digest)
        return str(digest)

    async def _copied(self, name: str, path: Path, hold: Hold) -> str:
        try:
            data = await in_thread(path.read_bytes)
        except OSError as error:
            raise InvalidModelError(f"{path.name} cannot be read: {error.strerror}") from error
        if name == facts.TOKENIZER_FILE and "model" not in facts.json_object(data, name):
            raise InvalidModelError(f"{name} is no tokenizer")
        digest, _ = await in_thread(lambda: self._blobs.put(data, hold=hold))
        return str(digest)

    def _publish(self, candidate: Candidate, manifest: Manifest) -> Taken | Left:
        """Give the model its names, of those that are free: the short one, and the one it had."""

        def is_free(name: ModelName) -> bool:
            before = self._means(name)
            return catalog.find(name) is None and (
                before is None or (isinstance(before, Manifest) and before.same_content(manifest))
            )

        short = family_names.choose(candidate.weights.name, is_free=is_free)
        wanted = {name.key: name for name in (short, candidate.name) if name is not None}
        free = [name for name in wanted.values() if is_free(name)]
        if not free:
            said = ", ".join(name.display for name in wanted.values())
            reason = f"{said} is another model already" if said else "no name can be made of it"
            return Left(label=candidate.label, reason=f"{reason}: rename the folder or the file")
        new = [name for name in free if self._means(name) is None]
        for name in new:
            self._library.publish(name, manifest)
        notes = candidate.notes
        for name in wanted.values():
            if name not in free:
                notes = (*notes, f"{name.display} is another model already, and was left as it is")
        return Taken(
            label=candidate.label,
            names=tuple(free),
            size=sum(layer.size for layer in manifest.layers),
            new=bool(new),
            notes=notes,
        )

    def _means(self, name: ModelName) -> Manifest | InvalidModelError | None:
        try:
            return self._library.stored(name).manifest
        except ModelNotFoundError:
            return None
        except InvalidModelError as error:
            # A damaged model is somebody's all the same.
            return error


async def take_over(
    source: Path, root: Path, say: Callable[[str], None], *, hub: HubSettings
) -> list[Taken | Left]:
    """Take over every model in `source`; `say` is told what begins.

    Raises:
        SetupError: The folder cannot be read, or the store's cannot be used.
    """
    try:
        found = list(survey(source))
    except OSError as error:
        raise SetupError(f"cannot read the folder {source}: {error.strerror}") from error
    try:
        with folder.owned(root):
            return await _take_all(found, root, say, Hub(hub))
    except folder.InUseError as error:
        raise SetupError(f"{error}: stop it, import, and start it again") from error


async def _take_all(
    found: Sequence[Candidate | Left], root: Path, say: Callable[[str], None], hub: Hub
) -> list[Taken | Left]:
    blobs = Blobs(root)
    outcomes: list[Taken | Left] = []
    async with (
        asyncio.TaskGroup() as tasks,
        Transfers(hub, blobs, tasks=tasks, registry=CollectorRegistry()) as transfers,
    ):
        library = Library(blobs, Manifests(root))
        importer = Importer(blobs, library, HubModels(hub, transfers, blobs))
        for each in found:
            if isinstance(each, Candidate):
                say(f"reading {each.weights}")
                outcomes.append(await importer.take(each))
            else:
                outcomes.append(each)
    return outcomes


def table(outcomes: Sequence[Taken | Left]) -> str:
    """What became of each, a line for each, and the notes below it."""
    rows = [("FROM", "NAME", "SIZE", "RESULT")]
    notes: list[tuple[str, ...]] = [()]
    for each in outcomes:
        match each:
            case Taken():
                names = ", ".join(name.display for name in each.names)
                result = "imported" if each.new else "there already"
                rows.append((each.label, names, human_bytes(each.size), result))
                notes.append(each.notes)
            case Left():
                rows.append((each.label, "-", "-", f"left out: {each.reason}"))
                notes.append(())
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for row, below in zip(rows, notes, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join((*cells, row[-1])))
        lines += [f"    {note}" for note in below]
    return "\n".join(lines) + "\n"


def human_bytes(size: int) -> str:
    """`3100000000` as `3.1 GB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def main(arguments: Sequence[str] | None = None, *, out: TextIO, err: TextIO) -> int:
    """Take over the folder that the command line names; 0 if all of it was, else 1."""
    parser = argparse.ArgumentParser(
        prog="rkllama import",
        description="Take over a models folder of RKLLAMA's. Nothing in it is changed.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the models folder")
    parser.add_argument("--data", type=Path, help="where the store is; else RKLLAMA_DATA")
    asked = parser.parse_args(arguments)
    try:
        data = asked.data.expanduser().absolute() if asked.data else read_shared().data_dir
        source = asked.folder.expanduser().absolute()
        hub, _ = read(HubSettings)
        outcomes = asyncio.run(
            take_over(source, data / "models", lambda text: print(text, file=err), hub=hub)
        )
    except SetupError as error:
        err.write(f"rkllama: {error}\n")
        return REFUSED
    if not outcomes:
        err.write(f"rkllama: there is no .rkllm or .gguf file in {source}\n")
        return REFUSED
    out.write(table(outcomes))
    return REFUSED if any(isinstance(each, Left) for each in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main(out=sys.stdout, err=sys.stderr))
