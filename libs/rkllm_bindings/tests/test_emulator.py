"""The emulator does what its script says, and says what its Python twin foretells."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import Library, Model, ModelConfig, Text, Tokens, load_library
from rkllm_bindings.emulator import (
    EmulatorBuildError,
    ModelScript,
    Reply,
    build,
    byte_level_tokenizer,
)
from tokenizers import Tokenizer

SPECIAL = {256: "<|end|>", 257: "<|user|>", 258: "<|assistant|>"}


def test_a_continuation_is_what_its_twin_foretells(
    stage: Any, library: Library, steps: Any
) -> None:
    keys: dict[str, Any] = {"alphabet": "abé漢🦉 ", "eos_every": 30, "seed": 7}
    script = ModelScript(**keys)
    model = stage.load(library, **keys)
    for prompt in ("", "x", "other", "é"):
        ids = script.tokenize(f"p{prompt}")
        steps.clear()
        model.run(Text(prompt=f"p{prompt}"), steps)

        assert steps.ids == script.continuation(ids, 10_000)


def test_answers_differ_from_the_first_tokens_on() -> None:
    """So that a token of another answer shows."""
    script = ModelScript(alphabet="".join(map(chr, range(33, 127))))
    starts = {tuple(script.continuation(script.tokenize(f"prompt {n}"), 3)) for n in range(200)}

    assert len(starts) == 200


def test_a_resumed_answer_is_the_rest_and_not_the_beginning(
    stage: Any, library: Library, steps: Any
) -> None:
    keys: dict[str, Any] = {"answer_tokens": 12, "answer_mark": 258, "special": SPECIAL}
    prompt = [*b"hi", 258]
    whole = ModelScript(**keys).continuation(prompt, 99)
    model = stage.load(library, **keys)
    model.run(Tokens(ids=[*prompt, *whole[:5]]), steps)

    assert len(whole) == 12
    assert steps.ids == whole[5:]


def test_a_fixed_reply_can_be_resumed_too(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library, replies=[Reply(text="Hello.")], resume_replies=True)
    model.run(Tokens(ids=[258, *b"Hel"]), steps)

    assert steps.text == b"lo."


def test_replies_are_chosen_by_what_the_prompt_says_last(
    stage: Any, library: Library, steps: Any
) -> None:
    model = stage.load(
        library,
        replies=[
            Reply(text="Rain.", when="weather"),
            Reply(text="Noon.", when="time"),
            Reply(text="Hm."),
        ],
    )
    for prompt in ("time? weather?", "weather? time?", "else"):
        model.run(Text(prompt=prompt), steps)

    assert steps.text == b"Rain.Noon.Hm."


def test_a_reply_may_depend_on_the_prompt(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library, replies=[Reply(text="{prompt_hash}: hi")])
    model.run(Text(prompt="a"), steps)
    model.run(Text(prompt="b"), steps)
    first, second = steps.text[:12], steps.text[12:]

    assert first != second
    assert first.endswith(b": hi")


def test_text_survives_the_script_file(stage: Any, newest: Library, steps: Any) -> None:
    text = '  a = "b" # \\ \t\r\n é漢 <|end|> \\n '
    stage.load(newest, replies=[Reply(text=text)]).run(Text(prompt="hi"), steps)

    assert steps.text.decode() == text


def test_special_tokens_have_their_ids_and_no_text(
    stage: Any, library: Library, steps: Any
) -> None:
    keys: dict[str, Any] = {"special": {**SPECIAL, 259: "<think>"}}
    model = stage.load(library, replies=[Reply(text="a<think>b")], **keys)
    model.run(Text(prompt="<|user|>hi"), steps)

    assert stage.trace("run")[0]["ids"] == [257, *b"hi"]
    assert steps.ids == [97, 259, 98]
    assert steps.text == b"ab"


def test_special_tokens_have_text_if_init_said_so(stage: Any, library: Library, steps: Any) -> None:
    config = {"skip_special_token": False}
    model = stage.load(library, replies=[Reply(tokens=[258, 97])], special=SPECIAL, config=config)
    model.run(Text(prompt="hi"), steps)

    assert steps.text == b"<|assistant|>a"


def test_a_vocabulary_of_its_own(stage: Any, library: Library, steps: Any) -> None:
    keys: dict[str, Any] = {
        "vocabulary": [b"<unk>", b"Hel", b"lo", b" ", b"\n", "é".encode()],
        "eos": [6],
        "vocab_size": 7,
    }
    model = stage.load(library, replies=[Reply(text="Hello é\n")], **keys)
    model.run(Text(prompt="lo Hel"), steps)

    assert stage.trace("run")[0]["ids"] == [2, 3, 1] == ModelScript(**keys).tokenize("lo Hel")
    assert steps.ids == [1, 2, 3, 5, 4]
    assert steps.text.decode() == "Hello é\n"


def test_ids_outside_the_vocabulary_fail(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, vocab_size=300)

    with pytest.raises(Exception, match="rkllm_run returned -1"):
        model.run(Tokens(ids=[300]), steps)


@pytest.mark.parametrize(("show", "ids"), [(False, [97]), (True, [97, 256])])
def test_the_eos_token_may_be_shown(
    stage: Any, library: Library, steps: Any, show: bool, ids: list[int]
) -> None:
    stage.load(library, replies=[Reply(text="a")], show_eos=show).run(Text(prompt="x"), steps)

    assert steps.ids == ids
    assert steps.states[-1] == "FINISH"


def test_an_eos_that_the_runtime_does_not_know(stage: Any, library: Library, steps: Any) -> None:
    """rknn-llm#534: the id passes by and the run never ends by itself."""
    config = {"max_new_tokens": 40}
    model = stage.load(library, replies=[Reply(text="a")], ignore_eos=True, config=config)
    model.run(Text(prompt="x"), steps)

    assert steps.ids[:2] == [97, 256]
    assert len(steps.ids) == 40


def test_init_may_ignore_the_eos(stage: Any, newest: Library, steps: Any) -> None:
    config = {"max_new_tokens": 5, "ignore_eos_token": True}
    stage.load(newest, replies=[Reply(text="a")], config=config).run(Text(prompt="x"), steps)

    assert len(steps.ids) == 5


def test_a_full_context_shifts_and_does_not_stop(stage: Any, library: Library, steps: Any) -> None:
    config = {"max_context_len": 64, "max_new_tokens": 200}
    stage.load(library, config=config).run(Tokens(ids=[1] * 50), steps)

    assert len(steps.ids) == 200


def test_a_full_context_may_stop(stage: Any, library: Library, steps: Any) -> None:
    config = {"max_context_len": 64, "max_new_tokens": 200}
    stage.load(library, config=config, context_full="stop").run(Tokens(ids=[1] * 50), steps)

    assert len(steps.ids) == 14


@pytest.mark.parametrize("content", [b"\x00\x01weights", b"x", b"GGUF" + bytes(5000)])
def test_any_file_is_a_model(library: Library, tmp_path: Path, steps: Any, content: bytes) -> None:
    path = tmp_path / "some.rkllm"
    path.write_bytes(content)
    with Model(library, ModelConfig(path=path)) as model:
        model.run(Tokens(ids=[151_644, 872, 198]), steps)
        first = steps.ids
        steps.clear()
        model.run(Tokens(ids=[151_644, 872, 198]), steps)

    assert steps.ids == first
    assert 0 < len(first) < 2000
    assert steps.states[-1] == "FINISH"


def test_models_of_different_files_differ(newest: Library, tmp_path: Path, steps: Any) -> None:
    answers = []
    for content in (b"one", b"two"):
        path = tmp_path / "some.rkllm"
        path.write_bytes(content)
        steps.clear()
        with Model(newest, ModelConfig(path=path)) as model:
            model.run(Tokens(ids=[1]), steps)
        answers.append(steps.ids)

    assert answers[0] != answers[1]


def test_an_empty_file_is_no_model(newest: Library, tmp_path: Path) -> None:
    path = tmp_path / "some.rkllm"
    path.touch()

    with pytest.raises(Exception, match="rkllm_init returned -1"):
        Model(newest, ModelConfig(path=path)).load()


def test_the_speed_is_the_scripts(stage: Any, newest: Library, steps: Any) -> None:
    """Qwen2.5-1.5B's vendor figure for RK3588, 20 times faster: 32 tokens in 96 ms."""
    model = stage.load(
        newest, prefill_tokens_per_s=339, decode_tokens_per_s=16.7, clock=20, answer_tokens=32
    )
    begun = time.monotonic()
    perf = model.run(Tokens(ids=[1] * 128), steps).perf
    took_ms = 1000 * (time.monotonic() - begun)

    assert perf is not None
    assert perf.prefill_ms == pytest.approx(1000 * 128 / 339 / 20, rel=1e-3)
    assert perf.generate_ms == pytest.approx(1000 * 32 / 16.7 / 20, rel=1e-3)
    # The first token comes with the prompt's end.
    assert perf.prefill_ms + perf.generate_ms * 31 / 32 <= took_ms


def test_runs_that_overlap_show_in_the_trace(stage: Any, newest: Library, steps: Any) -> None:
    """Two handles of one process, and whatever shares the board's lock file."""
    keys: dict[str, Any] = {"decode_tokens_per_s": 100, "board": stage.folder / "board"}
    first, second = (stage.load(newest, answer_tokens=100, **keys) for _ in range(2))
    begun = threading.Event()
    thread = threading.Thread(target=lambda: first.run(Tokens(ids=[1]), lambda _: begun.set()))
    thread.start()
    assert begun.wait(10)
    second.run(Tokens(ids=[1]), lambda _: second.abort())
    first.abort()
    thread.join(10)
    second.run(Tokens(ids=[1]), lambda _: second.abort())

    assert [line["overlap"] for line in stage.trace("run")] == [[], ["process", "board"], []]


def test_callbacks_may_come_on_another_thread(stage: Any, library: Library) -> None:
    threads = []
    model = stage.load(library, answer_tokens=2, foreign_thread=True)
    model.run(Tokens(ids=[1]), lambda _: threads.append(threading.get_ident()))

    assert threading.get_ident() not in threads


def test_a_key_that_is_unknown_is_refused(newest: Library, tmp_path: Path) -> None:
    path = tmp_path / "model.rkllm"
    path.write_text("rkllm-emulator 1\nspeeed = 3\n")

    with pytest.raises(Exception, match="rkllm_init returned -1"):
        Model(newest, ModelConfig(path=path)).load()


def test_a_tokenizer_json_agrees_with_the_emulator(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(byte_level_tokenizer(SPECIAL)))
    tokenizer = Tokenizer.from_file(str(path))
    script = ModelScript(special=SPECIAL)
    text = "<|user|>Grüße, 漢🦉\n\t <b>  <|assistant|>"
    ids = tokenizer.encode(text).ids

    assert ids == script.tokenize(text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.decode(ids).encode() == script.text(ids)
    assert [tokenizer.decode([byte]) for byte in b"az"] == ["a", "z"]


def test_a_build_is_made_once(tmp_path: Path) -> None:
    first = build("abi-1.3.0", tmp_path)
    made = first.stat().st_mtime_ns
    second = build("abi-1.3.0", tmp_path)

    assert (second, second.stat().st_mtime_ns) == (first, made)
    assert load_library(first).family.id == "abi-1.3.0"


def test_without_a_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("cc") is None

    with pytest.raises(EmulatorBuildError, match="ziglang"):
        build("abi-1.3.0", tmp_path, arch="riscv64")


def test_an_unknown_family_is_no_build(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        build("abi-9", tmp_path)
