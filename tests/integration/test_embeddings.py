"""Embeddings by the official client, from a real embedding model, against that model's definition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import ollama
import pytest

from tests import minilm
from tests.integration.conftest import MODEL
from tests.stack import Stack, wait_until

EMBEDDER = "all-minilm"
CLOSE = 0.9999
"""A cosine; weights in F16 alone take it to 0.999998."""

EXAMPLE = """
from ollama import embed

response = embed(model='llama3.2', input='Hello, world!')
print(response['embeddings'])
"""
"""`examples/embed.py` of ollama-python."""
BATCH_EXAMPLE = """
from ollama import embed

response = embed(model='all-minilm', input=['Why is the sky blue?', 'Why is the grass green?'])
print(len(response.embeddings), [len(vector) for vector in response.embeddings])
"""


def create(client: ollama.Client, weights: Path) -> None:
    """As a person would: the file, and a name."""
    digest = client.create_blob(weights)
    client.create(EMBEDDER, files={weights.name: digest})


@pytest.fixture(scope="module")
def client(stack: Stack, minilm_weights: Path) -> Iterator[ollama.Client]:
    with ollama.Client(host=stack.url, trust_env=False) as client:
        create(client, minilm_weights)
        yield client
        client.delete(EMBEDDER)


@pytest.fixture(scope="module")
def reference() -> minilm.Reference:
    return minilm.Reference()


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    a, b = np.asarray(one), np.asarray(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def refused(stack: Stack, http: httpx2.Client, path: str, **body: Any) -> tuple[int, str]:
    answer = http.post(f"{stack.url}{path}", json={"model": EMBEDDER, **body})
    return answer.status_code, answer.json().get("error", "")


def test_the_model_says_that_it_embeds(client: ollama.Client) -> None:
    shown = client.show(EMBEDDER)

    assert shown.capabilities == ["embedding"]
    assert shown.details is not None
    assert (shown.details.family, shown.details.quantization_level) == ("bert", "F16")
    assert shown.modelinfo is not None
    assert shown.modelinfo["bert.context_length"] == minilm.CONTEXT_TOKENS
    assert shown.modelinfo["bert.embedding_length"] == minilm.WIDTH


def test_a_batch_has_the_models_vectors_in_its_order(
    client: ollama.Client, reference: minilm.Reference
) -> None:
    answer = client.embed(EMBEDDER, list(minilm.TEXTS))

    expected = [reference.vector(text) for text in minilm.TEXTS]
    assert len(answer.embeddings) == len(minilm.TEXTS)
    assert min(map(cosine, answer.embeddings, expected)) > CLOSE
    for vector in answer.embeddings:
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    tokens = sum(len(reference.ids(text)) for text in minilm.TEXTS)
    assert answer.prompt_eval_count == tokens
    assert answer.total_duration is not None
    assert answer.load_duration is not None
    assert 0 < answer.load_duration < answer.total_duration


def test_clients_at_the_same_time_get_their_own(client: ollama.Client) -> None:
    texts = [f"Text number {number} of many" for number in range(24)]
    together = client.embed(EMBEDDER, texts)

    with ThreadPoolExecutor(6) as pool:
        alone = list(pool.map(lambda text: client.embed(EMBEDDER, text), texts))

    for one, vector in zip(alone, together.embeddings, strict=True):
        assert list(one.embeddings[0]) == list(vector)


def test_fewer_dimensions_are_cut_and_of_unit_length_again(client: ollama.Client) -> None:
    whole = client.embed(EMBEDDER, "a").embeddings[0]

    cut = client.embed(EMBEDDER, "a", dimensions=64).embeddings[0]

    assert len(cut) == 64
    assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-6)
    assert cosine(cut, whole[:64]) == pytest.approx(1, abs=1e-6)


def test_what_is_nothing_to_embed(client: ollama.Client) -> None:
    assert client.embed(EMBEDDER, "").embeddings == []
    assert client.embed(EMBEDDER, []).embeddings == []
    assert len(client.embed(EMBEDDER, [""]).embeddings) == 1


def test_a_batch_with_a_text_that_may_not_be_cut_fails_whole(
    stack: Stack, client: ollama.Client, http: httpx2.Client, reference: minilm.Reference
) -> None:
    """And the answer after it is its own."""
    texts = ["a", "word " * 600, "b"]

    found = refused(stack, http, "/api/embed", input=texts, truncate=False)
    after = client.embed(EMBEDDER, "after").embeddings

    assert found == (400, "the input length exceeds the context length")
    assert len(after) == 1
    assert cosine(after[0], reference.vector("after")) > CLOSE


def test_a_smaller_context_cuts_more(client: ollama.Client) -> None:
    """The tokens around a text are among its four; the model goes, and with it this context."""
    small = client.embed(EMBEDDER, "word " * 9, options={"num_ctx": 4}, keep_alive=0)
    two = client.embed(EMBEDDER, "word word")

    assert (small.prompt_eval_count, two.prompt_eval_count) == (4, 4)
    assert list(small.embeddings[0]) == list(two.embeddings[0])


def test_the_older_endpoint_has_the_vector_as_it_is(
    stack: Stack, client: ollama.Client, http: httpx2.Client, reference: minilm.Reference
) -> None:
    text = minilm.TEXTS[8]

    vector = client.embeddings(EMBEDDER, text).embedding
    too_long = refused(stack, http, "/api/embeddings", prompt="word " * 600)

    rows = reference.rows(text)
    assert cosine(vector, rows.mean(axis=0)) > CLOSE
    assert np.linalg.norm(vector) == pytest.approx(np.linalg.norm(rows.mean(axis=0)), rel=1e-2)
    assert client.embeddings(EMBEDDER, "").embedding == []
    assert too_long == (500, "the input length exceeds the context length")


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_it_does_not_talk(
    stack: Stack, client: ollama.Client, http: httpx2.Client, path: str
) -> None:
    body = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}

    assert refused(stack, http, f"/api/{path}", **body) == (
        400,
        f'"{EMBEDDER}" does not support {path}',
    )


def test_a_model_that_talks_embeds_too(client: ollama.Client) -> None:
    texts = ["one", "two"]

    together = client.embed(MODEL, texts)
    alone = [client.embed(MODEL, text).embeddings[0] for text in texts]

    assert [list(vector) for vector in together.embeddings] == [list(vector) for vector in alone]
    assert cosine(*alone) < CLOSE
    for vector in alone:
        assert len(vector) == 576
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("example", "words"), [(EXAMPLE, "[[0.0"), (BATCH_EXAMPLE, "2 [384, 384]")]
)
def test_the_clients_examples_run_unchanged(
    stack: Stack, client: ollama.Client, example: str, words: str
) -> None:
    client.copy(EMBEDDER, "llama3.2")
    environment = os.environ | {"OLLAMA_HOST": stack.url, "NO_PROXY": "127.0.0.1,localhost"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", example],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        client.delete("llama3.2")

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.lstrip("-").replace("[[-", "[[").startswith(words)


def busy_s(pid: int) -> float:
    """Processor time that a process has used (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_batch_outlives_its_engine(own_stack: Stack, minilm_weights: Path) -> None:
    """It goes on at the first vector that is missing, and none is another text's."""
    texts = [f"{number} " + "word " * 100 for number in range(60)]
    with (
        ollama.Client(host=own_stack.url, trust_env=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        create(client, minilm_weights)
        client.embed(EMBEDDER, "loaded")
        (engine,) = own_stack.engines()
        before_s = busy_s(engine)
        asked = pool.submit(client.embed, EMBEDDER, texts)
        wait_until("some vectors", lambda: busy_s(engine) > before_s + 0.5)
        os.kill(engine, signal.SIGKILL)
        answer = asked.result()
        runs = own_stack.runs()
        again = client.embed(EMBEDDER, texts)

    assert runs == 3
    assert list(map(list, answer.embeddings)) == list(map(list, again.embeddings))
    assert answer.prompt_eval_count == again.prompt_eval_count
