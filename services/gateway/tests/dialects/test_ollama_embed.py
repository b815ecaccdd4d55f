"""Embeddings: bodies, jobs and answers (contract 1.2, 1.5, 1.7, 2.10, 2.11)."""

from __future__ import annotations

import base64
import json
import math
from array import array
from pathlib import Path
from typing import Any

import pytest
from rkllama_gateway.dialects.errors import DialectError
from rkllama_gateway.dialects.ollama.failures import Endpoint
from rkllama_gateway.dialects.ollama.jobs import LoadIntent, UnloadIntent, embed_job
from rkllama_gateway.dialects.ollama.requests import parse_embed, parse_embeddings
from rkllama_gateway.dialects.ollama.vectors import EmbedAnswer
from rkllama_gateway.dialects.vectors import normalised
from rkllama_protocol.codec import Chunk
from rkllama_protocol.messages import Job, ModelDetails, ResolvedModel, Sampling

GOLDEN = Path(__file__).parent / "golden"
NOW = "2026-01-02T03:04:05Z"
EMBED, EMBEDDINGS = Endpoint.EMBED, Endpoint.EMBEDDINGS


def emb(*capabilities: str, **facts: Any) -> ResolvedModel:
    return ResolvedModel(
        name="emb:latest",
        full_name="registry.ollama.ai/library/emb:latest",
        digest="sha256:" + "1" * 64,
        size=1,
        modified_at="2026-01-02T03:04:05+01:00",
        capabilities=capabilities or ("embedding",),
        **{"details": ModelDetails(), **facts},
    )


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "Emb", **fields}).encode()


def made(model: ResolvedModel, **fields: Any) -> Job | LoadIntent | UnloadIntent:
    return embed_job(parse_embed(body(**fields)), model, job_id="j", now=NOW, seed=7)


def made_old(model: ResolvedModel, **fields: Any) -> Job | LoadIntent | UnloadIntent:
    return embed_job(parse_embeddings(body(**fields)), model, job_id="j", now=NOW, seed=7)


def packed(*values: float) -> str:
    return base64.b64encode(array("f", values).tobytes()).decode()


# ------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        ({}, ()),
        ({"input": None}, ()),
        ({"input": ""}, ()),
        ({"input": []}, ()),
        ({"input": [""]}, ("",)),
        ({"input": "a"}, ("a",)),
        ({"input": ["a", "", "b"]}, ("a", "", "b")),
        ({"INPUT": "a"}, ("a",)),
    ],
)
def test_what_there_is_to_embed(fields: Any, inputs: tuple[str, ...]) -> None:
    """Contract 2.10: `[""]` is a real input."""
    assert parse_embed(body(**fields)).inputs == inputs


@pytest.mark.parametrize("value", [1, True, {}, ["a", 1], [None], [["a"]], [1, 2]])
def test_an_input_that_is_no_text_is_refused(value: Any) -> None:
    """Contract 2.10."""
    with pytest.raises(DialectError) as caught:
        parse_embed(body(input=value))
    assert (caught.value.status, caught.value.message) == (400, "invalid input type")


@pytest.mark.parametrize(
    ("parse", "data", "status", "text"),
    [
        (parse_embed, b"", 400, "missing request body"),
        (parse_embeddings, b" ", 400, "missing request body"),
        (parse_embed, b"{", 400, "unexpected EOF"),
        (parse_embed, b"{}", 404, "model '' not found"),
        (parse_embeddings, b"{}", 400, "model is required"),
        (parse_embed, body(model="a b"), 400, "invalid model name"),
        (parse_embeddings, body(model="a b"), 400, "invalid model name"),
        (
            parse_embed,
            body(model="x:cloud:local"),
            400,
            'use either :local or :cloud, not both: "x:cloud:local"',
        ),
        (
            parse_embed,
            b"[]",
            400,
            "json: cannot unmarshal array into Go value of type api.EmbedRequest",
        ),
        (
            parse_embed,
            body(dimensions="3"),
            400,
            (
                "json: cannot unmarshal string into Go struct field EmbedRequest.dimensions"
                " of type int"
            ),
        ),
        (
            parse_embed,
            body(truncate=1),
            400,
            "json: cannot unmarshal number into Go struct field EmbedRequest.truncate of type bool",
        ),
        (
            parse_embeddings,
            body(prompt=["a"]),
            400,
            (
                "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt"
                " of type string"
            ),
        ),
        (
            parse_embed,
            body(options=5),
            400,
            (
                "json: cannot unmarshal number into Go struct field EmbedRequest.options"
                " of type map[string]interface {}"
            ),
        ),
        (parse_embed, body(keep_alive="5"), 400, 'time: missing unit in duration "5"'),
        (parse_embeddings, body(keep_alive=True), 400, "Unsupported type: 'bool'"),
    ],
)
def test_bodies_are_refused_in_ollamas_words(
    parse: Any, data: bytes, status: int, text: str
) -> None:
    """Contract 1.2, 1.5."""
    with pytest.raises(DialectError) as caught:
        parse(data)
    assert (caught.value.status, caught.value.message) == (status, text)


def test_fields_of_other_endpoints_are_ignored() -> None:
    """Contract 1.5."""
    asked = parse_embed(body(input="a", top_logprobs=99, think="huge", stream=5))

    assert asked.inputs == ("a",)


# ------------------------------------------------------------------------------ jobs


def test_texts_become_a_job() -> None:
    fields = {"input": ["a", "b"], "keep_alive": "1m", "truncate": False}

    assert made(emb(), **fields, options={"num_ctx": 64}) == Job(
        job_id="j",
        model=emb(),
        kind="embed",
        inputs=("a", "b"),
        sampling=Sampling(seed=7),
        truncate=False,
        num_ctx=64,
        most_input_tokens=64,
        keep_alive_s=60.0,
        now=NOW,
    )


def test_texts_are_cut_unless_it_is_forbidden_and_never_by_the_older_endpoint() -> None:
    """Contract 2.10, 2.11."""
    new, old = made(emb(), input="a"), made_old(emb(), prompt="a")

    assert isinstance(new, Job)
    assert isinstance(old, Job)
    assert (new.truncate, old.truncate) == (True, False)
    assert old.inputs == ("a",)


@pytest.mark.parametrize("fields", [{}, {"input": ""}, {"input": []}])
def test_nothing_to_embed_loads(fields: Any) -> None:
    """Contract 2.10."""
    intent = made(emb(), **fields, keep_alive=-1)

    assert isinstance(intent, LoadIntent)
    assert (intent.job.kind, intent.job.keep_alive_s) == ("load", -1.0)


def test_nothing_to_embed_and_nothing_to_keep_unloads() -> None:
    """Contract 1.7."""
    assert made(emb(), keep_alive=0) == UnloadIntent(model=emb())
    assert made_old(emb(), prompt="", keep_alive="0s") == UnloadIntent(model=emb())


@pytest.mark.parametrize("capability", ["embedding", "completion"])
def test_a_model_that_talks_can_embed_too(capability: str) -> None:
    """Contract 1.5."""
    assert isinstance(made(emb(capability), input="a"), Job)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: made(emb("image"), input="a"), '"Emb" does not support embed'),
        (lambda: made_old(emb("image"), prompt="a"), '"Emb" does not support embeddings'),
    ],
)
def test_a_model_that_can_neither_is_refused(make: Any, text: str) -> None:
    with pytest.raises(DialectError) as caught:
        make()
    assert (caught.value.status, caught.value.message) == (400, text)


def test_an_option_of_the_wrong_type_is_a_failure_of_the_server() -> None:
    """Contract 1.5."""
    with pytest.raises(DialectError) as caught:
        made(emb(), input="a", options={"temperature": "hot"})
    assert caught.value.status == 500
    assert caught.value.message == 'option "temperature" must be of type float32'


# ------------------------------------------------------------------------------ answers

CHUNKS = (
    Chunk(seq=0, vector=packed(3, 4, 0), prompt_tokens=2, prefill_ns=3_000_000),
    Chunk(seq=1, vector=packed(0.1, -1e-7, 0.25), prompt_tokens=5, prefill_ns=14_000_000),
    Chunk(seq=2, finish="stop"),
)


def answered(answer: EmbedAnswer, chunks: tuple[Chunk, ...] = CHUNKS) -> bytes:
    for at, chunk in enumerate(chunks):
        answer.add(chunk, elapsed_ns=(at + 1) * 10_000_000)
    return answer.whole(now_ns=0, elapsed_ns=50_000_000)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("embed", EmbedAnswer(EMBED, "Emb<")),
        ("embed_cut", EmbedAnswer(EMBED, "Emb", dimensions=2)),
        ("embeddings", EmbedAnswer(EMBEDDINGS, "Emb")),
    ],
)
def test_answers_are_what_they_were(name: str, answer: EmbedAnswer) -> None:
    """The wire format is the product: no byte of it changes unseen."""
    chunks = CHUNKS[1:] if name == "embeddings" else CHUNKS

    assert answered(answer, chunks) == (GOLDEN / f"{name}.ndjson").read_bytes()


def test_loading_is_answered_without_vectors() -> None:
    """Contract 2.10, 2.11: no durations."""
    loaded = (Chunk(seq=0, finish="load"),)
    assert answered(EmbedAnswer(EMBED, "emb"), loaded) == b'{"model":"emb","embeddings":[]}'
    assert EmbedAnswer(EMBED, "emb").idle("load", now_ns=0) == b'{"model":"emb","embeddings":[]}'
    assert EmbedAnswer(EMBEDDINGS, "emb").idle("unload", now_ns=0) == b'{"embedding":[]}'


@pytest.mark.parametrize(
    ("dimensions", "length"), [(-1, 3), (0, 3), (1, 1), (2, 2), (3, 3), (4, 3), (99, 3)]
)
def test_dimensions_cut_where_there_is_more(dimensions: int, length: int) -> None:
    """Contract 2.10: 0, negative or larger is ignored."""
    vector = normalised(array("f", (3, 4, 12)), dimensions=dimensions)

    assert len(vector) == length
    assert math.isclose(math.hypot(*vector), 1, rel_tol=1e-6)


def test_a_vector_of_zeros_stays_one() -> None:
    assert list(normalised(array("f", (0, 0)))) == [0, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("endpoint", "status"), [(EMBED, 400), (EMBEDDINGS, 500)])
def test_a_vector_with_holes_is_refused(value: float, endpoint: Endpoint, status: int) -> None:
    """Contract 2.10, also where the hole would be cut off; 1.5 for the older endpoint's status."""
    answer = EmbedAnswer(endpoint, "m", dimensions=1)

    with pytest.raises(DialectError) as caught:
        answer.add(Chunk(seq=0, vector=packed(1, value)), elapsed_ns=1)
    assert caught.value.status == status
    assert caught.value.message == "embedding contains NaN or Inf values"


@pytest.mark.parametrize("vector", ["AAAA", "A", "#AAA"])
def test_a_damaged_vector_is_a_failure_of_the_server(vector: str) -> None:
    with pytest.raises(DialectError) as caught:
        EmbedAnswer(EMBED, "m").add(Chunk(seq=0, vector=vector), elapsed_ns=1)
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("endpoint", "code", "status"),
    [
        (EMBED, "prompt_too_long", 400),
        (EMBED, "invalid_job", 400),
        (EMBED, "runtime_failed", 500),
        (EMBED, "no_worker", 503),
        (EMBEDDINGS, "prompt_too_long", 500),
        (EMBEDDINGS, "runtime_failed", 500),
        (EMBEDDINGS, "no_worker", 503),
    ],
)
def test_a_failed_run_keeps_its_sentence(endpoint: Endpoint, code: str, status: int) -> None:
    """Contract 1.5, 2.10: the engine says what it is about the input."""
    failed = Chunk(seq=0, error_code=code, error_message="the input length exceeds")

    with pytest.raises(DialectError) as caught:
        EmbedAnswer(endpoint, "m").add(failed, elapsed_ns=1)
    assert (caught.value.status, caught.value.message) == (status, "the input length exceeds")
