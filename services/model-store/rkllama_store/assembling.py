"""Puts into a draft what a recipe asks for: files that are blobs already, an adapter, texts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from rkllama_protocol.errors import InvalidJobError
from rkllama_protocol.names import Digest
from rkllama_transfer.threads import in_thread

from rkllama_store import facts, gguf_reading
from rkllama_store.blobs import Blobs, Hold
from rkllama_store.draft import Draft
from rkllama_store.library import messages_json, parameters_json
from rkllama_store.manifests import MediaType
from rkllama_store.recipe import (
    PROJECTOR_ENDING,
    Recipe,
    blob_digest,
    check_adapter,
    merged,
    weights_file,
)


async def take_files(
    draft: Draft,
    blobs: Blobs,
    hold: Hold,
    files: Mapping[str, str],
    *,
    add_tokenizer: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Put in files that were uploaded, name to digest, and what they say about themselves.

    `add_tokenizer` puts in a tokenizer from elsewhere; it is asked only where the files have none.

    Raises:
        InvalidJobError, InvalidModelError: They do not make a model.
        UpstreamError: The tokenizer cannot be fetched.
        StorageError: The disk is full or refuses.
    """
    digests = {name: blob_digest(text) for name, text in files.items()}
    for digest in digests.values():
        hold.add(digest)
    weights = weights_file(digests, tokenizer_comes=add_tokenizer is not None)
    sizes = {name: await _size(blobs, digest) for name, digest in digests.items()}
    report: facts.Report | None = None
    if weights.endswith(".gguf"):
        report = await gguf_reading.report(blobs.path(digests[weights]))
    for name, digest in digests.items():
        draft.take(_kind(name, weights), digest, size=sizes[name], title=name)
    lacking = draft.titled(facts.TOKENIZER_FILE) is None and (
        report is None or bool(report.no_tokenizer)
    )
    if add_tokenizer is not None and lacking:
        await add_tokenizer()
    if report is not None:
        await draft.complete(report)
    else:
        config = draft.titled(facts.CONFIG_FILE)
        data = await draft.read(config) if config else None
        await draft.describe(*facts.of_rkllm(weights, data))


async def override(draft: Draft, blobs: Blobs, hold: Hold, recipe: Recipe) -> None:
    """Put what the recipe says in place of what came with the model; errors as `take_files`."""
    if recipe.adapter is not None:
        await _take_adapter(draft, blobs, hold, *recipe.adapter)
    if recipe.template:
        draft.drop(MediaType.TEMPLATE)
        await draft.add(MediaType.TEMPLATE, recipe.template.encode())
    if recipe.system:
        draft.drop(MediaType.SYSTEM)
        await draft.add(MediaType.SYSTEM, recipe.system.encode())
    draft.requires = recipe.requires or draft.requires
    for text in recipe.license:
        await draft.add(MediaType.LICENSE, text.encode())
    if recipe.parameters:
        before = await draft.parameters()
        draft.drop(MediaType.PARAMETERS)
        data = parameters_json(merged(before, recipe.parameters))
        await draft.add(MediaType.PARAMETERS, data)
    if recipe.messages:
        draft.drop(MediaType.MESSAGES)
        await draft.add(MediaType.MESSAGES, messages_json(recipe.messages))


async def _take_adapter(draft: Draft, blobs: Blobs, hold: Hold, name: str, text: str) -> None:
    digest = blob_digest(text)
    hold.add(digest)
    size = await _size(blobs, digest)
    draft.drop(MediaType.ADAPTER)
    if draft.titled(name) is not None:
        raise InvalidJobError(f"{name} is given twice")
    report: facts.Report | None = None
    if name.endswith(".gguf"):
        report = await gguf_reading.report(blobs.path(digest))
    check_adapter(name, report, draft.details)
    draft.take(MediaType.ADAPTER, digest, size=size, title=name)


async def _size(blobs: Blobs, digest: Digest) -> int:
    if (size := await in_thread(lambda: blobs.size(digest))) is None:
        raise InvalidJobError(f"open {digest.file_name}: no such file or directory")
    return size


def _kind(name: str, weights: str) -> MediaType:
    if name == weights:
        return MediaType.WEIGHTS
    return MediaType.PROJECTOR if name.endswith(PROJECTOR_ENDING) else MediaType.FILE
