"""Hidden states of a decoder: of one loaded to write, and of one loaded to embed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from rkllama_protocol.errors import RuntimeFailedError, UnsupportedError
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.runtime.base import GenerateRequest
from rkllama_worker.engine.runtime.llama_model import BATCH_TOKENS
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp
from rkllama_worker.engine.runtime.llamacpp_embedding import LlamaCppEmbedder
from rkllama_worker.engine.runtime.logits import Floats
from tokenizers import Tokenizer

CONTEXT_TOKENS = BATCH_TOKENS + 32
TEXT = "Boards bid for work, and nobody assigns it. "


@pytest.fixture(scope="module")
def writer(weights: Path) -> Iterator[LlamaCpp]:
    runtime = LlamaCpp(weights, num_ctx=CONTEXT_TOKENS)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def embedder(weights: Path) -> Iterator[LlamaCppEmbedder]:
    runtime = LlamaCppEmbedder(weights, num_ctx=CONTEXT_TOKENS)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def short(tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode(TEXT, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def long(tokenizer: Tokenizer) -> list[int]:
    """More than one batch."""
    return list(tokenizer.encode(TEXT * 20, add_special_tokens=False).ids)[: BATCH_TOKENS + 9]


def said(runtime: LlamaCpp, prompt: Sequence[int]) -> list[int]:
    ids: list[int] = []

    def emit(more: Sequence[int], _logprobs: object = (), /) -> bool:
        ids.extend(more)
        return True

    request = GenerateRequest(sampling=Sampling(temperature=0), max_tokens=8)
    runtime.generate(prompt, request, emit)
    return ids


def close(one: Floats, other: Floats) -> bool:
    """Weights of 4 bits are multiplied less exactly in batches than alone: cosines of 0.998."""
    cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    return one.shape == other.shape == (576,) and cosine > 0.99


def test_there_is_a_row_for_each_token(embedder: LlamaCppEmbedder, long: list[int]) -> None:
    """A causal model knows nothing of what follows: a text's rows begin with those of its beginning."""
    rows = embedder.embed(long, last_only=False)
    beginning = embedder.embed(long[:50], last_only=False)

    assert rows.shape == (len(long), 576)
    assert all(map(close, rows[:50], beginning))
    assert not close(rows[49], rows[48])


@pytest.mark.parametrize("length", [1, 2, BATCH_TOKENS, BATCH_TOKENS + 1])
def test_the_last_row_alone_is_that_of_all(
    embedder: LlamaCppEmbedder, writer: LlamaCpp, long: list[int], length: int
) -> None:
    """Also from a model that was loaded to write, which puts out one row at a time."""
    rows = embedder.embed(long[:length], last_only=False)

    for runtime in (embedder, writer):
        (last,) = runtime.embed(long[:length], last_only=True)
        assert close(last, rows[-1])


def test_a_text_fills_the_whole_context(
    embedder: LlamaCppEmbedder, writer: LlamaCpp, long: list[int]
) -> None:
    full = (long * 2)[: embedder.embeddable_tokens]

    assert len(full) == writer.embeddable_tokens == CONTEXT_TOKENS
    assert len(embedder.embed(full, last_only=False)) == CONTEXT_TOKENS
    assert len(writer.embed(full, last_only=True)) == 1


def test_equal_texts_have_equal_vectors_whatever_ran_before(
    writer: LlamaCpp, short: list[int], long: list[int]
) -> None:
    first = writer.embed(long, last_only=True)
    writer.embed(short, last_only=True)
    said(writer, long[:20])

    assert first.tobytes() == writer.embed(long, last_only=True).tobytes()


def test_it_writes_as_before_it_embedded(writer: LlamaCpp, short: list[int]) -> None:
    before = said(writer, short)
    writer.embed(short, last_only=True)

    assert said(writer, short) == before


def test_a_model_loaded_to_write_gives_one_row(writer: LlamaCpp, short: list[int]) -> None:
    with pytest.raises(UnsupportedError, match="one vector a text"):
        writer.embed(short, last_only=False)


def test_ids_of_another_tokenizer_are_refused(
    writer: LlamaCpp, embedder: LlamaCppEmbedder, short: list[int]
) -> None:
    for runtime in (writer, embedder):
        with pytest.raises(RuntimeFailedError, match="outside its vocabulary"):
            runtime.embed([*short, 1 << 30], last_only=True)
        assert len(runtime.embed(short, last_only=True)) == 1
