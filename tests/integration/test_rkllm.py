"""The NPU's path end to end, against the emulator: what a client sees on good days and bad ones.

Everything here is proven of the ABI and the emulator; nothing of a board.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import ollama
import pytest
from rkllm_bindings.emulator import ModelScript, Reply, build

from tests.emulated import create, emulated, model_files, prompt_ids
from tests.stack import Stack, wait_until

SENTENCE = "It rains in Málaga 🌧, they say."
HELLO = [Reply(text=SENTENCE, when="weather"), Reply(text="Hello there.")]


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One emulated board with the newest runtime, which all tests share."""
    with emulated(tmp_path_factory.mktemp("npu"), "abi-1.3.0") as running:
        yield running


@pytest.fixture
def client(npu: Stack) -> Iterator[ollama.Client]:
    with ollama.Client(host=npu.url, trust_env=False) as client:
        yield client


def ask(client: ollama.Client, model: str, text: str, **options: object) -> ollama.ChatResponse:
    messages = [{"role": "user", "content": text}]
    return client.chat(model, messages, options=options)


@pytest.mark.parametrize(
    "family", ["abi-1.1", "abi-1.2.0", "abi-1.2.1b1", "abi-1.2.1", "abi-1.3.0"]
)
def test_every_runtime_answers_what_its_model_says(family: str, tmp_path: Path) -> None:
    with (
        emulated(tmp_path, family) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        script = create(client, "m", ModelScript(replies=HELLO), tmp_path)
        whole = ask(client, "m", "How is the weather?")
        pieces = list(
            client.chat("m", [{"role": "user", "content": "How is the weather?"}], stream=True)
        )
        cut = client.generate("m", "weather", options={"num_predict": 3})

    assert whole.message.content == SENTENCE
    assert whole.prompt_eval_count == len(prompt_ids(script, "How is the weather?"))
    assert whole.eval_count == len(script.tokenize(SENTENCE))
    assert "".join(piece.message.content or "" for piece in pieces) == SENTENCE
    assert (cut.response, cut.eval_count, cut.done_reason) == (SENTENCE[:3], 3, "length")


def test_durations_are_the_librarys_own_in_nanoseconds(
    client: ollama.Client, tmp_path: Path
) -> None:
    """16.7 tokens a second (Qwen2.5-1.5B on RK3588, by the vendor), twenty times faster."""
    script = ModelScript(
        replies=HELLO, prefill_tokens_per_s=339, decode_tokens_per_s=16.7, clock=20
    )
    script = create(client, "paced", script, tmp_path)
    answer = ask(client, "paced", "weather")

    assert answer.prompt_eval_count is not None
    assert answer.eval_count is not None
    prefill_ns = answer.prompt_eval_count / 339 / 20 * 1e9
    decode_ns = answer.eval_count / 16.7 / 20 * 1e9
    assert answer.prompt_eval_duration == pytest.approx(prefill_ns, rel=0.01)
    assert answer.eval_duration == pytest.approx(decode_ns, rel=0.05)


def test_ps_shows_the_model_wholly_on_the_accelerator(
    client: ollama.Client, tmp_path: Path
) -> None:
    create(client, "shown", ModelScript(replies=HELLO), tmp_path)
    client.generate("shown")
    (loaded,) = (model for model in client.ps().models if model.model == "shown:latest")

    assert loaded.size == loaded.size_vram
    assert loaded.details is not None
    assert loaded.details.format == "rkllm"


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(
    client: ollama.Client, tmp_path: Path
) -> None:
    create(client, "vectors", ModelScript(embd_size=32), tmp_path)
    texts = ["one", "two", "a longer third text"]
    together = client.embed("vectors", texts)
    alone = [client.embed("vectors", text).embeddings[0] for text in texts]

    assert [list(vector) for vector in together.embeddings] == [list(vector) for vector in alone]
    assert len(together.embeddings[0]) == 32
    for vector in together.embeddings:
        assert sum(value * value for value in vector) == pytest.approx(1)
    assert together.prompt_eval_count == sum(map(len, texts))


def test_options_that_the_runtime_cannot_honour_are_named(
    npu: Stack, client: ollama.Client, http: httpx2.Client, tmp_path: Path
) -> None:
    create(client, "optional", ModelScript(replies=HELLO), tmp_path)
    body = {
        "model": "optional",
        "prompt": "hi",
        "stream": False,
        "options": {"seed": 7, "min_p": 0.1, "temperature": 0.5},
    }
    answer = http.post(f"{npu.url}/api/generate", json=body)

    assert answer.headers["x-rkllama-ignored-options"] == "min_p, seed"


FAULTS = {
    "crash": (ModelScript(fault="abort", fault_after=4, fault_when="BREAK"), "SIGABRT"),
    "segfault": (ModelScript(fault="segfault", fault_after=4, fault_when="BREAK"), "SIGSEGV"),
    "exit": (ModelScript(fault="exit", fault_after=4, fault_when="BREAK"), "exit code"),
    "crash in prefill": (ModelScript(fault="abort", fault_when="BREAK"), "SIGABRT"),
    "error": (ModelScript(fault="error", fault_after=4, fault_when="BREAK"), "rkllm_run"),
}


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_told_and_the_next_answer_is_its_own(
    client: ollama.Client, tmp_path: Path, name: str, fault: tuple[ModelScript, str]
) -> None:
    """What had come before is shown, then the failure; nothing of it appears in the next answer.

    An engine that dies is replaced, and the answer goes on, twice. What a model that never waits made in the
    last instant may die with it: then it is made again.
    """
    script, words = fault
    attempts = 1 if name == "error" else 3
    script = create(client, "faulty", script, tmp_path)
    pieces: list[ollama.ChatResponse] = []
    with pytest.raises(ollama.ResponseError, match=words):
        pieces.extend(client.chat("faulty", [{"role": "user", "content": "BREAK"}], stream=True))
    made = script.continuation(prompt_ids(script, "BREAK"), script.fault_after * attempts)
    following = ask(client, "faulty", "go on", num_predict=12)

    shown = "".join(piece.message.content or "" for piece in pieces)
    whole = script.text(made).decode()
    assert shown == whole if name == "error" else whole.startswith(shown)
    expected = script.continuation(prompt_ids(script, "go on"), 12)
    assert following.message.content == script.text(expected).decode()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (ModelScript(init_fault="fail"), "cannot load the model"),
        (ModelScript(init_fault="segfault"), "SIGSEGV"),
        (ModelScript(target_platform="RK3576"), "converted for another SoC"),
        (ModelScript(init_fault="late_crash"), "SIG"),
    ],
    ids=["refused", "segfault", "other SoC", "0 and then a crash"],
)
def test_a_model_that_does_not_load_is_told_and_others_do(
    client: ollama.Client, tmp_path: Path, script: ModelScript, words: str
) -> None:
    create(client, "unloadable", script, tmp_path)
    create(client, "good", ModelScript(replies=HELLO), tmp_path)
    with pytest.raises(ollama.ResponseError, match=words) as caught:
        ask(client, "unloadable", "hello")

    assert caught.value.status_code == 500
    assert ask(client, "good", "weather").message.content == SENTENCE


def test_a_hang_is_ended_when_its_client_leaves(npu: Stack, tmp_path: Path) -> None:
    """The library heeds no abort: two seconds later its process is killed, and the board is free."""
    with ollama.Client(host=npu.url, trust_env=False) as client:
        script = ModelScript(fault="hang", fault_after=3, fault_when="BREAK")
        script = create(client, "hanging", script, tmp_path)
        body = {"model": "hanging", "prompt": "BREAK"}
        with httpx2.stream("POST", f"{npu.url}/api/generate", json=body, trust_env=False) as answer:
            next(answer.iter_lines())
        expected = script.continuation(prompt_ids(script, "go on"), 5)

        assert (
            ask(client, "hanging", "go on", num_predict=5).message.content
            == script.text(expected).decode()
        )


def test_an_end_that_never_comes_is_cut_at_the_models_own_eos(
    client: ollama.Client, tmp_path: Path
) -> None:
    script = ModelScript(ignore_eos=True, answer_tokens=9)
    script = create(client, "endless", script, tmp_path)
    answer = ask(client, "endless", "hello", num_predict=100)

    assert (answer.eval_count, answer.done_reason) == (9, "stop")


def test_a_model_that_lost_itself_frees_its_board(client: ollama.Client, tmp_path: Path) -> None:
    """An NPU whose numbers overflow says one token until its context is full."""
    create(client, "lost", ModelScript(replies=[Reply(text="!" * 2000)]), tmp_path)

    endless = ask(client, "lost", "How is the weather?")
    bounded = ask(client, "lost", "How is the weather?", num_predict=50)

    assert endless.message.content == "!" * 31
    assert (endless.eval_count, endless.done_reason) == (31, "length")
    assert (bounded.eval_count, bounded.done_reason) == (50, "length")


def test_a_prompt_longer_than_the_context_is_refused_before_the_library_sees_it(
    npu: Stack, client: ollama.Client, http: httpx2.Client, tmp_path: Path
) -> None:
    create(client, "short", ModelScript(context_limit=96, replies=HELLO), tmp_path)
    body = {"model": "short", "prompt": "word " * 50, "shift": False}
    refused = http.post(f"{npu.url}/api/generate", json=body)

    assert refused.status_code == 400
    assert "longer than the context" in refused.json()["error"]
    assert ask(client, "short", "weather").message.content == SENTENCE


def test_two_hundred_answers_cut_by_num_predict_lose_nothing_and_leak_nothing(
    tmp_path: Path,
) -> None:
    """The predecessor lost the last token in 25 of 40, and gave it to the next request."""
    count, length = 200, 16
    with (
        emulated(tmp_path, "abi-1.2.1", workers=2) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        script = create(client, "m", ModelScript(decode_tokens_per_s=2000), tmp_path)

        def answer(number: int) -> str:
            return ask(client, "m", f"question {number}", num_predict=length).message.content or ""

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(answer, range(count)))
        shared = [stack.runs(f"worker-{number}") for number in (1, 2)]

    for number, text in enumerate(answers):
        ids = script.continuation(prompt_ids(script, f"question {number}"), length)
        assert text == script.text(ids).decode()
    assert sum(shared) == count
    assert min(shared) > 0


def test_another_build_with_the_vendors_marker_and_any_file_works(tmp_path: Path) -> None:
    theirs = build("abi-1.2.1", tmp_path, vendor_marker="1.2.3")
    with (
        emulated(tmp_path, "abi-1.2.1", RKLLAMA_RKLLM_LIBRARY=str(theirs)) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        files = model_files(ModelScript(), tmp_path / "any")
        files["model.rkllm"].write_bytes(b"\x00anything\xff" * 100)
        digests = {title: client.create_blob(path) for title, path in files.items()}
        client.create("any", files=digests)
        first, second = (ask(client, "any", "hello").message.content for _ in range(2))

    assert first
    assert first == second


def test_a_worker_that_was_killed_is_not_followed_before_its_engine_is_gone(
    tmp_path: Path,
) -> None:
    """The lock of the device node goes with the engine, so one NPU never has two drivers."""
    node = tmp_path / "node"
    node.touch()
    with (
        emulated(tmp_path, "abi-1.3.0", RKLLAMA_WORKER_NPU_NODE=str(node)) as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        create(client, "m", ModelScript(replies=HELLO), tmp_path)
        ask(client, "m", "weather")
        stack.start("rival", "rkllama_worker", RKLLAMA_WORKER_WORKER_ID="rival")
        wait_until(
            "the rival to give up", lambda: f"{node} is in use" in stack.log("rival").read_text()
        )
        stack.kill("worker-1")
        stack.start_worker(1)

        assert ask(client, "m", "weather").message.content == SENTENCE


@pytest.mark.boards
def test_a_model_too_many_for_the_address_space_takes_the_place_of_the_oldest(
    tmp_path: Path,
) -> None:
    """The NPU has 16 IOMMU domains, of which the first is not for language models."""
    with (
        emulated(tmp_path, "abi-1.3.0") as stack,
        ollama.Client(host=stack.url, trust_env=False) as client,
    ):
        create(client, "base", ModelScript(replies=HELLO), tmp_path)
        names = [f"m{number}:latest" for number in range(16)]
        for number, name in enumerate(names):
            client.create(name, from_="base", parameters={"num_predict": 100 + number})
            assert client.generate(name, "hi").response == "Hello there."
        loaded = {model.model for model in client.ps().models}

    assert loaded == set(names[1:])


def test_a_file_that_was_changed_is_noticed_before_the_model_is_loaded_again(
    npu: Stack, client: ollama.Client, tmp_path: Path
) -> None:
    """Also where the gateway knows already what the name means."""
    create(client, "changed", ModelScript(replies=HELLO, embd_size=24), tmp_path)
    before = ask(client, "changed", "weather").message.content
    client.generate("changed", keep_alive=0)
    blobs = npu.folder / "models" / "blobs"
    stamps = {path: path.stat() for path in blobs.iterdir()}
    for path in blobs.iterdir():
        os.utime(path, (1, 1))
    try:
        with pytest.raises(ollama.ResponseError, match="was changed after it was stored"):
            ask(client, "changed", "weather")
    finally:
        for path, was in stamps.items():
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    after = ask(client, "changed", "weather").message.content

    assert (before, after) == (SENTENCE, SENTENCE)


def test_what_a_model_was_converted_for_is_known_once_it_was_loaded(
    npu: Stack, http: httpx2.Client, client: ollama.Client, tmp_path: Path
) -> None:
    """The file does not say it; the library prints it. It stays known when the model goes."""

    def context_length() -> int | None:
        listed = http.get(f"{npu.url}/api/tags").json()["models"]
        (model,) = (one for one in listed if one["name"] == "converted:latest")
        found: int | None = model["details"].get("context_length")
        return found

    create(client, "converted", ModelScript(replies=HELLO, context_limit=2048), tmp_path)
    before = context_length()
    ask(client, "converted", "weather")
    loaded = context_length()
    client.generate("converted", keep_alive=0)

    assert (before, loaded, context_length()) == (None, 2048, 2048)
