"""The document's curl examples and the official Python client, against the real small model."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import httpx2
import ollama
import pytest

from tests.integration.conftest import MODEL
from tests.stack import Stack

ALIAS = "qwen2.5:3b"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}

# The examples as the system's document prints them; only the port is replaced.
CURL_EXAMPLES = [
    """curl -X POST http://localhost:8080/api/chat -d '{
  "model": "qwen2.5:3b",
  "messages": [
    {"role": "user", "content": "Hello, how are you today?"}
  ]
}'""",
    """curl -X POST http://localhost:8080/api/generate -d '{
  "model": "qwen2.5:3b",
  "prompt": "Write a poem about AI"
}'""",
    "curl http://localhost:8080/api/tags",
]


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[ollama.Client]:
    """The official client, with the name that the document uses."""
    with ollama.Client(host=stack.url, trust_env=False) as client:
        # The document's prompts have no end of their own; the model's parameters give them one.
        client.create(ALIAS, from_=MODEL, parameters={"num_predict": 100})
        yield client
        client.delete(ALIAS)


@pytest.mark.parametrize("command", CURL_EXAMPLES)
def test_the_documents_examples_work_as_printed(
    stack: Stack, client: ollama.Client, command: str
) -> None:
    port = stack.url.rsplit(":", 1)[1]
    run = subprocess.run(
        ["bash", "-c", command.replace("curl", "curl -sS", 1).replace(":8080", f":{port}")],
        check=True,
        capture_output=True,
        text=True,
    )

    last = json.loads(run.stdout.splitlines()[-1])
    assert last.get("done") is True or ALIAS in [model["name"] for model in last["models"]]


def test_list_names_the_model_with_its_facts(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}

    found = models[MODEL]
    assert found.details is not None
    assert (found.details.format, found.details.family) == ("gguf", "llama")
    assert found.size is not None
    assert found.size > 90_000_000
    assert re.fullmatch("[0-9a-f]{64}", found.digest or "")


def test_show_gives_the_files_own_facts(client: ollama.Client) -> None:
    shown = client.show(MODEL)

    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert "completion" in (shown.capabilities or [])


def test_chat_knows_the_capital(client: ollama.Client) -> None:
    answer = client.chat(MODEL, CAPITAL, options=GREEDY)

    assert "Paris" in (answer.message.content or "")
    assert answer.done_reason == "stop"
    assert answer.prompt_eval_count is not None
    assert answer.eval_count is not None
    assert answer.eval_count > 1
    assert answer.total_duration is not None
    assert answer.eval_duration is not None
    assert 0 < answer.eval_duration < answer.total_duration


def test_a_streamed_chat_is_the_same_text_in_pieces(client: ollama.Client) -> None:
    pieces = list(client.chat(MODEL, CAPITAL, options=GREEDY, stream=True))

    text = "".join(piece.message.content or "" for piece in pieces)
    assert len(pieces) > 3
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "Paris" in text


def test_generate_stops_at_num_predict(client: ollama.Client) -> None:
    answer = client.generate(
        MODEL, "Count to one hundred.", options={"num_predict": 7, "temperature": 0}
    )

    assert (answer.eval_count, answer.done_reason) == (7, "length")
    assert answer.context


def test_generate_stops_before_a_stop_string(client: ollama.Client) -> None:
    whole = client.chat(MODEL, CAPITAL, options=GREEDY).message.content or ""
    cut = client.chat(MODEL, CAPITAL, options=GREEDY | {"stop": ["Paris"]})

    assert cut.message.content == whole.split("Paris")[0].rstrip() or (
        cut.message.content == whole.split("Paris")[0]
    )
    assert cut.done_reason == "stop"


def test_a_seed_repeats_an_answer(client: ollama.Client) -> None:
    options = {"seed": 7, "temperature": 1.0, "num_predict": 20}
    first, second, other = (
        client.generate(MODEL, "Tell me a story.", options=options | {"seed": seed}).response
        for seed in (7, 7, 8)
    )

    assert first == second
    assert first != other


def test_ps_shows_a_loaded_model_until_it_is_unloaded(client: ollama.Client) -> None:
    client.generate(MODEL, keep_alive="10m")
    loaded = [model for model in client.ps().models if model.model == MODEL]
    client.generate(MODEL, keep_alive=0)

    assert len(loaded) == 1
    assert loaded[0].context_length
    assert MODEL not in [model.model for model in client.ps().models]


def test_copy_and_delete(client: ollama.Client) -> None:
    client.copy(MODEL, "second")
    assert "second:latest" in [model.model for model in client.list().models]
    client.delete("second")

    assert "second:latest" not in [model.model for model in client.list().models]
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("second")
    assert caught.value.status_code == 404


def test_create_changes_what_a_model_is_told(client: ollama.Client) -> None:
    records = list(
        client.create(
            "pirate", from_=MODEL, system="You are a pirate.", parameters=GREEDY, stream=True
        )
    )
    shown = client.show("pirate")
    client.delete("pirate")

    assert records[-1].status == "success"
    assert "You are a pirate." in (shown.modelfile or "")
    assert shown.parameters is not None
    assert shown.parameters.split() == ["temperature", "0"]


def test_pull_of_the_bundled_model_is_quick_and_complete(client: ollama.Client) -> None:
    statuses = [record.status for record in client.pull(MODEL, stream=True)]

    assert statuses[0] == "pulling manifest"
    assert statuses[-1] == "success"


def test_pull_of_an_unknown_model_says_so(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist"):
        client.pull("no-such-model")


def test_a_blob_goes_up_once(stack: Stack, http: httpx2.Client) -> None:
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    url = f"{stack.url}/api/blobs/{digest}"

    assert http.head(url).status_code == 404
    assert http.post(url, content=b"hello").status_code == 201
    assert http.head(url).status_code == 200
    assert http.post(url, content=b"hello").status_code == 200
    wrong = http.post(url.replace("2cf2", "3cf2"), content=b"hello")
    assert wrong.status_code == 400
    assert wrong.json()["error"].startswith("digest mismatch, expected")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, "Ollama is running"),
        ("GET", "/nope", 404, "404 page not found"),
        ("GET", "/api/chat", 405, "405 method not allowed"),
        ("DELETE", "/api/tags", 405, "405 method not allowed"),
        ("GET", "/livez", 200, "ok\n"),
        ("GET", "/readyz", 200, "ok\n"),
    ],
)
def test_what_there_is_and_what_not(
    stack: Stack, http: httpx2.Client, method: str, path: str, status: int, text: str
) -> None:
    answer = http.request(method, stack.url + path)

    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "missing request body"),
        (b"{", 400, "unexpected EOF"),
        (b'{"model":"nope","messages":[]}', 404, "model 'nope' not found"),
        (b'{"messages":[]}', 400, "model is required"),
        (
            b'{"model":3}',
            400,
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
    ],
)
def test_bad_chats_are_refused_in_ollamas_words(
    stack: Stack, http: httpx2.Client, body: bytes, status: int, error: str
) -> None:
    answer = http.post(f"{stack.url}/api/chat", content=body)

    assert (answer.status_code, answer.json()) == (status, {"error": error})
