"""An engine with a real embedding model, held against that model computed by its definition."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Fault, Job
from rkllama_worker.engine.pooling import POOLING_FILE
from rkllama_worker.engine.wire import Kind, LoadSpec

from tests import minilm

if TYPE_CHECKING:
    from conftest import EngineUnderTest

Vector = npt.NDArray[np.float32]
MakeJob = Callable[..., Job]
RebuildFiles = Callable[[Path], dict[str, str]]
CLOSE = 0.9999
"""A cosine; weights in F16 alone take it to 0.999998."""


@pytest.fixture(scope="module")
def reference() -> minilm.Reference:
    return minilm.Reference()


@pytest.fixture(scope="module")
def minilm_files(minilm_weights: Path, rebuild_files: RebuildFiles) -> dict[str, str]:
    return rebuild_files(minilm_weights)


@pytest.fixture(scope="module")
def minilm_spec(minilm_weights: Path, minilm_files: dict[str, str]) -> LoadSpec:
    return LoadSpec(
        name="all-minilm",
        model_format="gguf",
        weights=str(minilm_weights),
        files=minilm_files,
        pools=True,
    )


@pytest.fixture(scope="module")
def embedder(
    minilm_spec: LoadSpec, start_engine: Callable[[], EngineUnderTest]
) -> Iterator[EngineUnderTest]:
    """One with the model loaded; a test leaves no run behind."""
    engine = start_engine()
    assert engine.load(minilm_spec).kind is Kind.READY
    yield engine
    engine.destroy()


@pytest.fixture
def embed(make_job: MakeJob) -> MakeJob:
    def make(*texts: str, **fields: object) -> Job:
        return make_job(kind="embed", inputs=texts, **fields)

    return make


def vectors(chunks: list[Chunk]) -> list[Vector]:
    return [np.frombuffer(base64.b64decode(c.vector), dtype="<f4") for c in chunks if c.vector]


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_vectors_are_those_of_the_models_definition(
    embedder: EngineUnderTest, embed: MakeJob, reference: minilm.Reference
) -> None:
    """The mean as it is: normalising is the gateway's, and one of its endpoints does not."""
    chunks, ended = embedder.answer(1, embed(*minilm.TEXTS))

    found = vectors(chunks)
    expected = [reference.rows(text).mean(axis=0) for text in minilm.TEXTS]
    assert len(found) == len(minilm.TEXTS)
    assert min(map(cosine, found, expected)) > CLOSE
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(other), rel=1e-2)
    counts = [len(reference.ids(text)) for text in minilm.TEXTS]
    assert [chunk.prompt_tokens for chunk in chunks] == [*counts, 0]
    assert ended.prompt_tokens == sum(counts)


def test_every_chunk_says_how_long_it_took_so_far(
    embedder: EngineUnderTest, embed: MakeJob
) -> None:
    chunks, ended = embedder.answer(1, embed("one", "two", "three"))

    times = [chunk.prefill_ns for chunk in chunks]
    assert 0 < times[0] < times[1] < times[2] == times[3] == ended.prefill_ns
    assert (ended.generated_tokens, ended.decode_ns) == (0, 0)


def test_a_text_has_one_vector_whatever_stands_beside_it(
    embedder: EngineUnderTest, embed: MakeJob
) -> None:
    together, _ = embedder.answer(1, embed("b", "a " * 700, "b", "c", "b"))
    alone, _ = embedder.answer(2, embed("b"))

    first, _, second, other, third = vectors(together)
    for one in (first, second, third):
        assert one.tobytes() == vectors(alone)[0].tobytes()
    assert other.tobytes() != first.tobytes()


def test_an_empty_text_is_a_text(
    embedder: EngineUnderTest, embed: MakeJob, reference: minilm.Reference
) -> None:
    chunks, ended = embedder.answer(1, embed(""))

    assert cosine(vectors(chunks)[0], reference.vector("")) > CLOSE
    assert ended.prompt_tokens == 2


def test_what_is_too_long_and_may_not_be_cut_fails(
    embedder: EngineUnderTest, embed: MakeJob
) -> None:
    fits, too_long = "word " * 510, "word " * 511

    chunks, ended = embedder.answer(1, embed("a", fits, too_long, "b", truncate=False))

    assert len(vectors(chunks)) == 2
    assert chunks[-1].error_code == "prompt_too_long"
    assert chunks[-1].error_message == "the input length exceeds the context length"
    assert (ended.last_seq, ended.prompt_tokens) == (2, 3 + 512)


def test_a_batch_that_was_begun_elsewhere_goes_on(
    embedder: EngineUnderTest, embed: MakeJob
) -> None:
    texts = ("a", "b", "c")
    whole, _ = embedder.answer(1, embed(*texts))

    rest, _ = embedder.answer(2, embed(*texts, resume={"vectors": 2}))

    assert [v.tobytes() for v in vectors(rest)] == [vectors(whole)[2].tobytes()]
    assert rest[0].seq == 0


def test_an_abort_ends_a_batch_and_the_next_one_is_whole(
    embedder: EngineUnderTest, embed: MakeJob, reference: minilm.Reference
) -> None:
    embedder.begin(1, embed(*["word " * 510] * 500))
    _, first = embedder.chunk()
    embedder.abort(1)
    chunks, ended = embedder.rest(1)
    after, _ = embedder.answer(2, embed("after"))

    assert (ended.aborted, ended.last_seq) == (True, -1)
    assert ended.prompt_tokens == 512 * len(vectors([first, *chunks]))
    assert all(not chunk.terminal for chunk in chunks)
    assert cosine(vectors(after)[0], reference.rows("after").mean(axis=0)) > CLOSE


def test_it_writes_no_text(embedder: EngineUnderTest, make_job: MakeJob) -> None:
    chunks, _ = embedder.answer(1, make_job(kind="completion", prompt="Hello"))

    assert chunks[-1].error_code == "unsupported"
    assert chunks[-1].error_message == "the model makes embeddings and no text"


def test_its_memory_is_taken_while_it_loads(
    minilm_spec: LoadSpec, embed: MakeJob, fresh_engine: EngineUnderTest
) -> None:
    """llama.cpp takes 62 MB for the longest text it has seen."""

    def resident_kb() -> int:
        status = Path(f"/proc/{fresh_engine.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    fresh_engine.load(minilm_spec)
    before = resident_kb()
    fresh_engine.answer(1, embed("word " * 510))

    assert fresh_engine.ready.context_length == minilm.CONTEXT_TOKENS
    assert fresh_engine.ready.memory_bytes > 62 * 2**20
    assert resident_kb() - before < 40 * 2**10


@pytest.mark.parametrize(
    ("num_ctx", "tokens"), [(3, [101, 2773, 102]), (5, [101, 2773, 2773, 2773, 102])]
)
def test_a_text_is_cut_to_the_context(
    minilm_spec: LoadSpec,
    embed: MakeJob,
    reference: minilm.Reference,
    fresh_engine: EngineUnderTest,
    num_ctx: int,
    tokens: list[int],
) -> None:
    """The tokens around a text count, and stay."""
    fresh_engine.load(minilm_spec.model_copy(update={"num_ctx": num_ctx}))

    chunks, ended = fresh_engine.answer(1, embed("word " * 9))

    cut = "word " * (len(tokens) - 2)
    assert reference.ids(cut) == tokens
    assert ended.prompt_tokens == num_ctx
    assert cosine(vectors(chunks)[0], reference.vector(cut)) > CLOSE


def test_a_context_that_has_no_room_for_a_text(
    minilm_spec: LoadSpec, embed: MakeJob, fresh_engine: EngineUnderTest
) -> None:
    fresh_engine.load(minilm_spec.model_copy(update={"num_ctx": 1}))

    chunks, _ = fresh_engine.answer(1, embed("word"))

    assert chunks[-1].error_code == "invalid_job"
    assert chunks[-1].error_message == "input after truncation exceeds maximum context length"


@pytest.mark.parametrize(
    ("in_weights", "in_file", "row"),
    [
        (gguf.PoolingType.CLS, "", 0),
        (gguf.PoolingType.LAST, "", -1),
        (gguf.PoolingType.MEAN, "pooling_mode_cls_token", 0),
        (None, "", None),
    ],
)
def test_the_pooling_is_the_models_own(
    minilm_spec: LoadSpec,
    embed: MakeJob,
    reference: minilm.Reference,
    fresh_engine: EngineUnderTest,
    tmp_path: Path,
    in_weights: gguf.PoolingType | None,
    in_file: str,
    row: int | None,
) -> None:
    """The file of Sentence Transformers before the weights; an encoder without either takes the mean."""
    weights, said = tmp_path / "m.gguf", tmp_path / "pooling"
    minilm.convert(weights, pooling=in_weights)
    said.write_text(json.dumps({in_file: True}))
    files = minilm_spec.files | ({POOLING_FILE: str(said)} if in_file else {})
    fresh_engine.load(minilm_spec.model_copy(update={"weights": str(weights), "files": files}))
    text = "Which row is it?"

    chunks, _ = fresh_engine.answer(1, embed(text))

    rows = reference.rows(text)
    expected = rows.mean(axis=0) if row is None else rows[row]
    assert cosine(vectors(chunks)[0], expected) > CLOSE


def test_a_model_that_ranks_is_refused(
    minilm_spec: LoadSpec, fresh_engine: EngineUnderTest, tmp_path: Path
) -> None:
    weights = tmp_path / "m.gguf"
    minilm.convert(weights, pooling=gguf.PoolingType.RANK)

    frame = fresh_engine.load(minilm_spec.model_copy(update={"weights": str(weights)}))

    assert frame.kind is Kind.FAILED
    fault = Fault.model_validate_json(frame.payload)
    assert fault.code == "unsupported"
    assert fault.message == "the model ranks pairs of texts and makes no embeddings"


def test_an_encoder_is_not_loaded_to_write(
    minilm_spec: LoadSpec, fresh_engine: EngineUnderTest
) -> None:
    frame = fresh_engine.load(minilm_spec.model_copy(update={"pools": False}))

    assert frame.kind is Kind.FAILED
    assert Fault.model_validate_json(frame.payload).code == "unsupported"
