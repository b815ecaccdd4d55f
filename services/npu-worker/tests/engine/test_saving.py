"""Contexts in files: what both runtimes have to do with them, and what comes of those that are no good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rkllama_protocol.errors import UnsupportedError
from rkllama_protocol.messages import Sampling
from rkllama_worker.engine.output import Output
from rkllama_worker.engine.runtime.base import GenerateRequest, RunStats, Runtime
from rkllama_worker.engine.runtime.llamacpp import LlamaCpp
from rkllama_worker.engine.runtime.llamacpp_embedding import LlamaCppEmbedder
from rkllama_worker.engine.runtime.rkllm import Rkllm
from rkllama_worker.engine.saving import Keeper
from rkllama_worker.engine.wire import RkllmSpec, RunEnded, Saving
from rkllm_bindings.emulator import ModelScript, build

Open = Callable[[], Runtime]

GREEDY = Sampling(temperature=0)
FIRST = [504, 1228, 338, 260, 30, 31, 32, 33]
OTHER = [40, 41, 42, 43, 44]
ANSWER_TOKENS = 8


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("abi-1.3.0", tmp_path_factory.mktemp("emulator"))


def rkllm(library: Path, weights: Path, *, saves: bool = True, constrained: bool = False) -> Rkllm:
    return Rkllm(
        weights,
        spec=RkllmSpec(library=str(library), cpu_mask=0xF0, saves=saves, constrained=constrained),
        num_ctx=512,
        sampling=GREEDY,
        output=Output(),
    )


@pytest.fixture(params=["llama.cpp", "rkllm"])
def open_runtime(
    request: pytest.FixtureRequest, weights: Path, emulator: Path, tmp_path: Path
) -> Iterator[Open]:
    """Opens the model once more; all are closed in the end."""
    script = ModelScript(answer_tokens=ANSWER_TOKENS).write(tmp_path / "m.rkllm")
    opened: list[Runtime] = []

    def once_more() -> Runtime:
        if request.param == "rkllm":
            opened.append(rkllm(emulator, script))
        else:
            opened.append(LlamaCpp(weights, num_ctx=256))
        return opened[-1]

    yield once_more
    for runtime in opened:
        runtime.close()


def run(
    runtime: Runtime, prompt: Sequence[int], *, save_to: Path | None = None
) -> tuple[list[int], RunStats]:
    """The ids of a run that nothing disturbs."""
    ids: list[int] = []

    def emit(more: Sequence[int], _logprobs: object = (), /) -> bool:
        ids.extend(more)
        return True

    request = GenerateRequest(sampling=GREEDY, max_tokens=ANSWER_TOKENS, save_to=save_to)
    stats = runtime.generate(prompt, request, emit)
    if save_to is not None:
        assert runtime.save(save_to)
    return ids, stats


def test_a_conversation_is_taken_up_from_its_file_as_if_it_had_never_left(
    open_runtime: Open, tmp_path: Path
) -> None:
    file = tmp_path / "saved"
    unsaved = open_runtime()
    answer, _ = run(unsaved, FIRST)
    turn = [*FIRST, *answer[:-1], *OTHER]
    expected, _ = run(unsaved, turn)
    runtime = open_runtime()
    run(runtime, FIRST, save_to=file)
    run(runtime, OTHER)

    assert runtime.restore(file)
    ids, stats = run(runtime, turn)

    assert ids == expected
    assert stats.reused_tokens >= len(FIRST)


def test_an_equal_prompt_gets_an_equal_answer_from_a_file(
    open_runtime: Open, tmp_path: Path
) -> None:
    file = tmp_path / "saved"
    runtime = open_runtime()
    answer, _ = run(runtime, FIRST, save_to=file)
    run(runtime, OTHER)

    assert runtime.restore(file)
    assert run(runtime, FIRST)[0] == answer


def test_the_next_process_takes_it_up_too(open_runtime: Open, tmp_path: Path) -> None:
    """A model that was unloaded meanwhile."""
    file = tmp_path / "saved"
    answer, _ = run(open_runtime(), FIRST, save_to=file)
    later = open_runtime()

    assert later.restore(file)
    ids, stats = run(later, [*FIRST, 50, 51])

    assert stats.reused_tokens == len(FIRST)
    assert len(ids) == len(answer)


def test_one_file_follows_another(open_runtime: Open, tmp_path: Path) -> None:
    """RKLLM's library has one loaded at a time."""
    runtime = open_runtime()
    files = {name: tmp_path / name for name in ("first", "other")}
    run(runtime, FIRST, save_to=files["first"])
    run(runtime, OTHER, save_to=files["other"])
    reused = []
    for name, prompt in (("first", FIRST), ("other", OTHER), ("first", FIRST)):
        assert runtime.restore(files[name])
        reused.append(run(runtime, [*prompt, 50, 51])[1].reused_tokens)

    assert reused == [len(FIRST), len(OTHER), len(FIRST)]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "of nobody"])
def test_a_file_that_is_no_good_is_refused_and_spoils_nothing(
    open_runtime: Open, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "saved"
    runtime = open_runtime()
    answer, _ = run(runtime, FIRST, save_to=file)
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        made = {"empty": b"", "cut off": content[:-4], "of nobody": bytes(len(content))}
        file.write_bytes(made[damage])

    assert not runtime.restore(file)
    assert run(runtime, FIRST)[0] == answer


def test_a_file_of_another_model_is_refused(emulator: Path, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    one = rkllm(emulator, ModelScript(answer_tokens=2).write(tmp_path / "one.rkllm"))
    other = rkllm(emulator, ModelScript(answer_tokens=3).write(tmp_path / "other.rkllm"))
    try:
        run(one, FIRST, save_to=file)
        assert not other.restore(file)
        assert run(other, FIRST)[1].reused_tokens == 0
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("family", ["abi-1.1", "abi-1.2.0", "abi-1.2.1", "abi-1.3.0"])
@pytest.mark.parametrize("saves", [True, False])
def test_the_npus_runtime_saves_where_it_is_asked_to_and_tells_what_it_reused(
    tmp_path: Path, family: str, saves: bool
) -> None:
    """Before 1.2.1 the library measures nothing: whether a file was of any use, nobody would know."""
    script = ModelScript(answer_tokens=2).write(tmp_path / "m.rkllm")
    runtime = rkllm(build(family, tmp_path), script, saves=saves)
    try:
        assert bool(runtime.saves_as) == (saves and family in {"abi-1.2.1", "abi-1.3.0"})
    finally:
        runtime.close()


def test_a_model_that_makes_vectors_saves_nothing(weights: Path, tmp_path: Path) -> None:
    embedder = LlamaCppEmbedder(weights, num_ctx=64)
    try:
        assert embedder.saves_as == ""
        with pytest.raises(UnsupportedError):
            embedder.save(tmp_path / "saved")
        with pytest.raises(UnsupportedError):
            embedder.restore(tmp_path / "saved")
    finally:
        embedder.close()


def test_a_run_of_single_steps_leaves_nothing_and_refuses_nothing(
    emulator: Path, tmp_path: Path
) -> None:
    """The library is asked for logits again and again, and not for a file."""
    script = ModelScript(answer_tokens=4, vocab_size=300).write(tmp_path / "m.rkllm")
    runtime = rkllm(emulator, script, constrained=True)
    file = tmp_path / "saved"
    try:
        run(runtime, [5, 6, 7], save_to=file)
        request = GenerateRequest(sampling=GREEDY, max_tokens=2, top_logprobs=0, save_to=file)
        runtime.generate([5, 6, 7], request, lambda _ids, _logprobs=(): True)

        assert runtime.save(file) is None
    finally:
        runtime.close()


def kept(runtime: Runtime, saving: Saving, *, stopped: bool = False) -> RunEnded:
    """What an engine tells of a run with these files."""
    keeper = Keeper(runtime, saving)
    keeper.restore()
    request = GenerateRequest(sampling=GREEDY, max_tokens=ANSWER_TOKENS, save_to=keeper.part)
    runtime.generate(FIRST, request, lambda _ids, _logprobs=(): not stopped)
    keeper.save(whole=True)
    return keeper.told(RunEnded(last_seq=0))


def test_a_file_appears_whole_and_its_size_is_told(open_runtime: Open, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    told = kept(open_runtime(), Saving(save_to=str(file)))

    assert told.saved_bytes == file.stat().st_size
    assert [path.name for path in tmp_path.glob("saved*")] == ["saved"]
    assert (told.restored, told.save_refused) == (None, False)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_model_that_saves_nothing_is_told_of_where_nobody_stopped_it(
    emulator: Path, tmp_path: Path, stopped: bool
) -> None:
    """RWKV supports neither; and a run that is aborted writes none anyway."""
    script = ModelScript(answer_tokens=4, prompt_cache_works=False, decode_tokens_per_s=50)
    runtime = rkllm(emulator, script.write(tmp_path / "m.rkllm"))
    try:
        told = kept(runtime, Saving(save_to=str(tmp_path / "saved")), stopped=stopped)
    finally:
        runtime.close()

    assert (told.saved_bytes, told.save_refused) == (0, not stopped)
    assert not list(tmp_path.glob("saved*"))


def test_a_disk_that_neither_writes_nor_removes_costs_the_file_alone(
    open_runtime: Open, tmp_path: Path
) -> None:
    """It became read-only in the middle of a run: the engine lives, and is not asked again."""
    (tmp_path / "saved.part").mkdir()
    told = kept(open_runtime(), Saving(save_to=str(tmp_path / "saved")))

    assert (told.saved_bytes, told.save_refused) == (0, True)


def test_a_restore_that_fails_is_told_and_the_prompt_is_read(
    open_runtime: Open, tmp_path: Path
) -> None:
    told = kept(open_runtime(), Saving(restore=str(tmp_path / "gone")))

    assert told.restored is False


def test_a_file_that_was_garbled_is_refused(weights: Path, tmp_path: Path) -> None:
    """llama.cpp itself would abort the process, or take it for true."""
    file = tmp_path / "saved"
    runtime = LlamaCpp(weights, num_ctx=256)
    try:
        answer, _ = run(runtime, FIRST, save_to=file)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

        assert not runtime.restore(file)
        assert run(runtime, FIRST)[0] == answer
    finally:
        runtime.close()


def test_a_longer_context_than_this_one_is_refused(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    long, short = (LlamaCpp(weights, num_ctx=tokens) for tokens in (256, 64))
    try:
        run(long, list(range(30, 130)), save_to=file)

        assert not short.restore(file)
        assert run(short, FIRST)[0] == run(long, FIRST)[0]
    finally:
        long.close()
        short.close()


def test_a_disk_that_refuses_costs_the_file_alone(weights: Path, tmp_path: Path) -> None:
    runtime = LlamaCpp(weights, num_ctx=256)
    try:
        run(runtime, FIRST)

        assert not runtime.save(tmp_path / "no folder" / "saved")
        assert run(runtime, FIRST)[1].finish == "length"
    finally:
        runtime.close()
