"""What `Model` promises, on every family."""

from __future__ import annotations

import gc
import resource
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import (
    FAMILIES,
    BusyError,
    ClosedError,
    Embeddings,
    Images,
    InitError,
    Library,
    Mode,
    Model,
    ModelConfig,
    Multimodal,
    RkllmError,
    RunError,
    Sampling,
    State,
    StatusError,
    Step,
    Text,
    Tokens,
    UnsupportedError,
    Videos,
)
from rkllm_bindings.emulator import ModelScript, Reply


def test_an_answer_comes_token_by_token(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library, replies=[Reply(text="Hello.")])
    result = model.run(Text(prompt="hi"), steps)

    assert steps.text == b"Hello."
    assert steps.ids == list(b"Hello.")
    assert steps.states == ["NORMAL"] * 6 + ["FINISH"]
    assert (result.status, result.finished, result.aborted) == (0, True, False)


def test_the_return_of_run_is_the_end(stage: Any, library: Library, steps: Any) -> None:
    """Nothing comes afterwards, and the next run gets nothing of this one."""
    model = stage.load(library, answer_tokens=5, foreign_thread=True)
    script = ModelScript(answer_tokens=5)
    for number in range(50):
        before = len(steps)
        model.run(Tokens(ids=[number, 7]), steps)

        ids = [step.token_id for step in steps[before:] if step.token_id >= 0]
        assert ids == script.continuation([number, 7], 9)


def test_unfinished_characters_wait(stage: Any, library: Library, steps: Any) -> None:
    stage.load(library, replies=[Reply(text="é漢🦉")]).run(Text(prompt="hi"), steps)

    assert steps.states[:9] == [
        *("WAITING", "NORMAL"),
        *("WAITING", "WAITING", "NORMAL"),
        *("WAITING", "WAITING", "WAITING", "NORMAL"),
    ]
    assert steps.text.decode() == "é漢🦉"
    assert steps.ids == list("é漢🦉".encode())


def test_split_characters_come_as_bytes(stage: Any, library: Library, steps: Any) -> None:
    stage.load(library, replies=[Reply(text="é")], utf8="split").run(Text(prompt="hi"), steps)

    assert [step.text for step in steps[:2]] == [b"\xc3", b"\xa9"]


def test_text_of_the_end_is_not_read(stage: Any, library: Library, steps: Any) -> None:
    """What FINISH and ERROR point to is not defined."""
    stage.load(library, answer_tokens=1).run(Text(prompt="hi"), steps)

    assert steps[-1].state is State.FINISH
    assert (steps[-1].text, steps[-1].token_id) == (None, -1)


def test_perf_is_given_where_the_family_has_it(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(
        library,
        prefill_tokens_per_s=1000,
        decode_tokens_per_s=100,
        answer_tokens=5,
        memory_mb=640,
    )
    perf = model.run(Tokens(ids=[1, 2, 3, 4]), steps).perf

    assert (perf is not None) is FAMILIES[library.family.id].gives_perf
    if perf is not None:
        assert (perf.prefill_tokens, perf.generate_tokens) == (4, 5)
        assert (perf.prefill_ms, perf.generate_ms) == pytest.approx((4, 50))
        assert perf.memory_mb == 640


def test_sampling_of_a_run_needs_a_family_that_has_it(
    stage: Any, library: Library, steps: Any
) -> None:
    model = stage.load(library, answer_tokens=9)
    can = FAMILIES[library.family.id].samples_per_run

    assert model.supports_sampling_per_run is can
    if can:
        model.run(Tokens(ids=[1]), steps, sampling=Sampling(top_k=1), max_new_tokens=4)
        assert len(steps.ids) == 4
    else:
        with pytest.raises(UnsupportedError, match=library.family.id):
            model.run(Tokens(ids=[1]), steps, sampling=Sampling())
        with pytest.raises(UnsupportedError):
            model.run(Tokens(ids=[1]), steps, max_new_tokens=4)
        assert stage.trace("run") == []


def test_max_new_tokens_of_init_holds(stage: Any, library: Library, steps: Any) -> None:
    stage.load(library, config={"max_new_tokens": 6}).run(Tokens(ids=[1]), steps)

    assert len(steps.ids) == 6
    assert steps.states[-1] == "FINISH"


def test_what_a_family_lacks_is_a_typed_error(stage: Any, library: Library, steps: Any) -> None:
    known = FAMILIES[library.family.id]
    model = stage.load(library, eos_every=4)
    image = array("f", [0.0] * 64)

    def refused(call: Any) -> bool:
        try:
            call()
        except UnsupportedError as error:
            return error.family == known.id
        return False

    text = Text(prompt="hi")
    two = Images(data=image * 2, n_tokens=1, count=2)
    video = Videos(data=image, n_frame_tokens=1, n_frames=1)
    calls: dict[str, tuple[bool, Any]] = {
        "clear": (known.keeps_history, model.clear_kv_cache),
        "template": (known.keeps_history, lambda: model.set_chat_template("", "", "")),
        "size": (known.gives_perf, model.kv_cache_size),
        "tools": (known.gives_perf, lambda: model.set_function_tools("", "[]", "t")),
        "history": (
            known.keeps_history,
            lambda: model.run(text, steps, keep_history=True),
        ),
        "logits": (known.gives_logits, lambda: model.run(text, steps, mode=Mode.LOGITS)),
        "role": (known.has_role, lambda: model.run(text, steps, role="tool")),
        "thinking": (known.has_role, lambda: model.run(text, steps, enable_thinking=True)),
        "two images": (
            known.counts_images,
            lambda: model.run(Multimodal(prompt="<image><image>", images=two), steps),
        ),
        "video": (
            known.has_video,
            lambda: model.run(Multimodal(prompt="<video>", videos=video), steps),
        ),
        "cross": (
            known.gives_perf,
            lambda: model.set_cross_attention(
                k_cache=image, v_cache=image, mask=image, positions=[1]
            ),
        ),
    }

    assert {name: not refused(call) for name, (_, call) in calls.items()} == {
        name: has for name, (has, _) in calls.items()
    }


@pytest.mark.parametrize(
    ("options", "since"),
    [({"ignore_eos_token": True}, "abi-1.3.0"), ({"use_cross_attn": True}, "abi-1.2.1")],
)
def test_what_init_cannot_be_told_is_a_typed_error(
    stage: Any, library: Library, options: dict[str, Any], since: str
) -> None:
    order = list(FAMILIES)
    if order.index(library.family.id) >= order.index(since):
        stage.load(library, config=options)
    else:
        with pytest.raises(UnsupportedError):
            stage.load(library, config=options)


def test_hidden_states_come_as_rows(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library, embd_size=8)
    model.run(Tokens(ids=[5, 6, 7]), steps, mode=Mode.HIDDEN_STATES)
    hidden = steps[0].hidden
    script = ModelScript(embd_size=8)

    assert steps.states == ["NORMAL", "FINISH"]
    assert hidden.shape == (3, 8)
    assert hidden.tolist()[1] == pytest.approx(script.hidden_row([5, 6]))
    assert hidden.tolist()[2] == pytest.approx(script.hidden_row([5, 6, 7]))


def test_the_last_row_alone_is_copied_on_request(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library, embd_size=8)
    model.run(Tokens(ids=[5, 6, 7]), steps, mode=Mode.HIDDEN_STATES, last_row_only=True)

    assert steps[0].hidden.shape == (1, 8)
    assert steps[0].hidden.tolist()[0] == pytest.approx(
        ModelScript(embd_size=8).hidden_row([5, 6, 7])
    )


def test_logits_come_as_rows(stage: Any, library: Library, steps: Any) -> None:
    if not FAMILIES[library.family.id].gives_logits:
        pytest.skip("abi-1.1 has no logits")
    model = stage.load(library, vocab_size=300)
    model.run(Tokens(ids=[5, 6]), steps, mode=Mode.LOGITS)
    logits = steps[0].logits
    script = ModelScript()

    assert steps.states == ["NORMAL", "FINISH"]
    assert logits.shape == (2, 300)
    assert logits.tolist()[1] == pytest.approx(script.logits_row([5, 6], 300))
    assert max(range(300), key=logits.tolist()[1].__getitem__) == script.next_id([5, 6])


def test_buffers_are_released_where_the_library_can(
    stage: Any, library: Library, steps: Any
) -> None:
    """1.3.0 frees them when the callback returns 2; the others would take it for nothing known."""
    known = FAMILIES[library.family.id]
    model = stage.load(library, embd_size=8, vocab_size=300, answer_tokens=3)
    model.run(Tokens(ids=[5]), steps, mode=Mode.HIDDEN_STATES)
    model.run(Tokens(ids=[5]), steps)

    released = [line["released"] for line in stage.trace("run_end")]
    assert released == [1 if known.releases_buffers else 0, 0]


def test_what_a_step_holds_outlives_the_callback(stage: Any, library: Library, steps: Any) -> None:
    """The emulator overwrites and frees everything it gave."""
    model = stage.load(library, embd_size=64, replies=[Reply(text="kept")])
    model.run(Tokens(ids=list(range(200))), steps, mode=Mode.HIDDEN_STATES)
    model.run(Text(prompt="x" * 1000), steps)
    gc.collect()

    assert steps[0].hidden.tolist()[0] == pytest.approx(ModelScript().hidden_row([0]))
    assert b"kept" in steps.text


def test_history_is_kept_only_when_asked(stage: Any, library: Library, steps: Any) -> None:
    if not FAMILIES[library.family.id].keeps_history:
        pytest.skip("abi-1.1 has no history")
    model = stage.load(library, answer_tokens=3)
    script = ModelScript(answer_tokens=3)
    model.run(Tokens(ids=[1, 2]), steps, keep_history=True)
    first = steps.ids
    model.run(Tokens(ids=[3]), steps, keep_history=True)
    model.run(Tokens(ids=[3]), steps)
    ends = [line["generated"] for line in stage.trace("run_end")]

    assert first == script.continuation([1, 2], 9)
    assert ends[1] == script.continuation([1, 2, *first, 3], 9)
    assert ends[2] == script.continuation([3], 9)


def test_prefill_counts_only_what_is_new(stage: Any, library: Library, steps: Any) -> None:
    """The whole list each time: the library reuses the common prefix (rknn-llm#432)."""
    reuses = FAMILIES[library.family.id].keeps_history
    model = stage.load(library, answer_tokens=2)
    model.run(Tokens(ids=[1, 2, 3, 4]), steps)
    longer = [1, 2, 3, 4, *steps.ids, 9]
    model.run(Tokens(ids=longer), steps)
    model.run(Tokens(ids=longer), steps)
    model.run(Tokens(ids=[8, 2, 3]), steps)

    prefilled = [line["prefilled"] for line in stage.trace("run_end")]
    assert prefilled == ([4, 1, 1, 3] if reuses else [4, 7, 7, 3])


def test_the_kv_cache_can_be_seen_and_cleared(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, answer_tokens=2)
    model.run(Tokens(ids=[1, 2, 3]), steps)
    full = model.kv_cache_size()
    model.clear_kv_cache()

    assert (full, model.kv_cache_size()) == (5, 0)
    assert stage.trace("clear_kv_cache")[0]["ranges"] is False


def test_clearing_works_in_every_family_that_can(stage: Any, library: Library, steps: Any) -> None:
    """Two arguments until 1.2.1b1, four from 1.2.1: with too few the library reads garbage."""
    if not FAMILIES[library.family.id].keeps_history:
        pytest.skip("abi-1.1 cannot")
    model = stage.load(library, answer_tokens=2)
    model.run(Tokens(ids=[1, 2, 3]), steps)
    model.clear_kv_cache()
    model.run(Tokens(ids=[1, 2, 3]), steps)
    model.clear_kv_cache(keep_system_prompt=True)

    assert stage.trace("run_end")[1]["prefilled"] == 3
    assert stage.trace("clear_kv_cache")[1]["keep_system_prompt"] == 1


def test_the_system_prompt_can_be_kept(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, answer_tokens=2, template_system="SYS")
    model.run(Text(prompt="hi"), steps)
    model.clear_kv_cache(keep_system_prompt=True)

    assert model.kv_cache_size() == 3


def test_a_prompt_cache_survives_the_process_of_its_making(
    stage: Any, library: Library, steps: Any
) -> None:
    file = stage.folder / "cache.bin"
    ids = list(range(1, 21))
    keys: dict[str, Any] = {"answer_tokens": 2, "prefix_reuse": True}
    stage.load(library, **keys).run(Tokens(ids=ids), steps, save_prompt_cache=file)
    second = stage.load(library, **keys)
    second.load_prompt_cache(file)
    second.run(Tokens(ids=[*ids, 99]), steps)
    second.release_prompt_cache()
    second.run(Tokens(ids=[*ids, 99]), steps)

    assert [line["prefilled"] for line in stage.trace("run_end")] == [20, 1, 21]


def test_a_loaded_prompt_cache_is_released_before_another_one(
    stage: Any, library: Library, steps: Any
) -> None:
    """The manual asks for it (1.3.0, section 3.2.9)."""
    file = stage.folder / "cache.bin"
    model = stage.load(library, answer_tokens=2)
    model.run(Tokens(ids=[1, 2, 3]), steps, save_prompt_cache=file)
    model.load_prompt_cache(file)

    with pytest.raises(StatusError):
        model.load_prompt_cache(file)
    model.release_prompt_cache()
    model.load_prompt_cache(file)


def test_a_model_without_prompt_caches_writes_none_and_loads_none(
    stage: Any, library: Library, steps: Any
) -> None:
    """RWKV supports neither; the run itself says nothing of it."""
    file = stage.folder / "cache.bin"
    keys: dict[str, Any] = {"answer_tokens": 2}
    stage.load(library, **keys).run(Tokens(ids=[1, 2, 3]), steps, save_prompt_cache=file)
    model = stage.load(library, **keys, prompt_cache_works=False)

    with pytest.raises(StatusError):
        model.load_prompt_cache(file)
    file.unlink()
    result = model.run(Tokens(ids=[1, 2, 3]), steps, save_prompt_cache=file)

    assert (result.status, file.exists()) == (0, False)


def test_a_prompt_cache_that_was_cut_off_is_refused_and_not_built_upon(
    stage: Any, library: Library, steps: Any
) -> None:
    file = stage.folder / "cache.bin"
    ids = list(range(1, 21))
    model = stage.load(library, answer_tokens=2, prefix_reuse=True)
    model.run(Tokens(ids=ids), steps, save_prompt_cache=file)
    file.write_bytes(file.read_bytes()[:-4])

    with pytest.raises(StatusError):
        model.load_prompt_cache(file)
    model.run(Tokens(ids=ids), steps)

    assert stage.trace("run_end")[-1]["prefilled"] == 20


@pytest.mark.parametrize("content", [None, b"", b"RKLLMEMU" + bytes(16)])
def test_a_bad_prompt_cache_is_refused(stage: Any, library: Library, content: bytes | None) -> None:
    """Missing, empty, or of another model."""
    model = stage.load(library)
    file = stage.folder / "cache.bin"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(StatusError) as caught:
        model.load_prompt_cache(file)

    assert (caught.value.function, caught.value.status) == ("rkllm_load_prompt_cache", -1)


def test_the_template_wraps_text_but_not_tokens(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, answer_tokens=1, template_prefix="[", template_postfix="]")
    model.run(Text(prompt="a"), steps)
    model.run(Tokens(ids=[97]), steps)
    model.set_chat_template("", "", "")
    model.run(Text(prompt="a"), steps)

    assert [line["ids"] for line in stage.trace("run")] == [list(b"[a]"), [97], [97]]


def test_an_unknown_lora_fails_the_run(stage: Any, library: Library, steps: Any) -> None:
    model = stage.load(library)

    with pytest.raises(RunError):
        model.run(Tokens(ids=[1]), steps, lora="nobody")
    with pytest.raises(StatusError):
        model.load_lora(stage.folder / "none", "nobody")


def test_a_prompt_that_is_too_long_fails_and_the_next_does_not(
    stage: Any, library: Library, steps: Any
) -> None:
    model = stage.load(library, config={"max_context_len": 64}, answer_tokens=2)

    with pytest.raises(RunError) as caught:
        model.run(Tokens(ids=[1] * 61), steps)
    model.run(Tokens(ids=[1] * 60), steps)

    assert caught.value.status == -1
    assert steps.states == ["ERROR", "NORMAL", "NORMAL", "FINISH"]


@pytest.mark.parametrize(
    "source",
    [
        Tokens(ids=[]),
        Embeddings(data=b"123", n_tokens=1),
        Embeddings(data=b"", n_tokens=0),
        Text(prompt="a\0b"),
        Multimodal(prompt="<image>"),
    ],
)
def test_malformed_input_never_reaches_the_library(
    stage: Any, newest: Library, steps: Any, source: Any
) -> None:
    model = stage.load(newest)

    with pytest.raises(ValueError, match=r"."):
        model.run(source, steps)

    assert stage.trace("run") == []


def test_a_failing_on_step_ends_the_run_and_is_raised(stage: Any, library: Library) -> None:
    """An exception that crossed into C would come out as a random return code."""
    model = stage.load(library, decode_tokens_per_s=200)
    seen = []

    def fail(step: Step) -> None:
        seen.append(step)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.run(Tokens(ids=[1]), fail)

    assert len(seen) == 1
    assert stage.trace("run_end")[0]["aborted"] is True


def test_a_model_that_cannot_be_loaded_is_an_init_error(
    stage: Any, library: Library, tmp_path: Path
) -> None:
    with pytest.raises(InitError) as caught:
        stage.load(library, context_limit=1024, config={"max_context_len": 2048})
    assert (caught.value.function, caught.value.status) == ("rkllm_init", -1)

    with pytest.raises(InitError):
        Model(library, ModelConfig(path=tmp_path / "none.rkllm")).load()


def test_only_a_loaded_model_runs(stage: Any, newest: Library, steps: Any) -> None:
    model = Model(newest, ModelConfig(path=stage.script(answer_tokens=1)))

    with pytest.raises(ClosedError):
        model.run(Tokens(ids=[1]), steps)
    assert model.abort() is False
    with model:
        assert model.loaded
        with pytest.raises(RkllmError, match="already"):
            model.load()
        model.run(Tokens(ids=[1]), steps)
    assert not model.loaded
    model.close()
    with pytest.raises(ClosedError):
        model.kv_cache_size()
    assert len(stage.trace("destroy")) == 1


def test_an_idle_abort_does_not_reach_the_next_run(
    stage: Any, library: Library, steps: Any
) -> None:
    model = stage.load(library, answer_tokens=5)

    assert model.abort() is False
    model.run(Tokens(ids=[1]), steps)
    assert model.abort() is False
    model.run(Tokens(ids=[1]), steps)

    assert [line["aborted"] for line in stage.trace("run_end")] == [False, False]
    assert stage.trace("abort") == []


class Running:
    """A run on a thread, that tells when its n-th token has come."""

    def __init__(self, model: Model, *, at_token: int = 3) -> None:
        self.reached = threading.Event()
        self.steps: list[Step] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self._at_token = at_token
        self._model = model
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._model.run(Tokens(ids=[1, 2]), self._take)
        except BaseException as error:
            self.error = error
            raise

    def _take(self, step: Step) -> None:
        self.steps.append(step)
        if len(self.steps) == self._at_token:
            self.reached.set()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("foreign_thread", [False, True])
def test_abort_from_another_thread_ends_the_run(
    stage: Any, library: Library, foreign_thread: bool
) -> None:
    model = stage.load(library, decode_tokens_per_s=50, foreign_thread=foreign_thread)
    running = Running(model)
    assert running.reached.wait(10)
    assert model.abort() is True
    running.join()

    assert running.result.aborted
    assert stage.trace("run_end")[0]["aborted"] is True


def test_an_aborted_run_may_end_without_finish(stage: Any, library: Library) -> None:
    model = stage.load(library, decode_tokens_per_s=100, finish_after_abort=False, abort_status=-1)
    running = Running(model)
    assert running.reached.wait(10)
    model.abort()
    running.join()

    assert (running.result.finished, running.result.status) == (False, -1)
    assert all(step.state is State.NORMAL for step in running.steps)


def test_tokens_may_come_after_an_abort(stage: Any, library: Library) -> None:
    model = stage.load(library, decode_tokens_per_s=200, abort_after_tokens=5)
    running = Running(model, at_token=2)
    assert running.reached.wait(10)
    model.abort()
    running.join()

    assert running.result.aborted
    assert len(running.steps) >= 2 + 5


def test_an_abort_inside_a_callback_is_made_elsewhere(stage: Any, library: Library) -> None:
    """Whether a callback may call rkllm_abort itself is not documented."""
    model = stage.load(library, decode_tokens_per_s=200)
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            assert model.abort() is True

    assert model.run(Tokens(ids=[1]), stop).aborted
    assert stage.trace("run_end")[0]["aborted"] is True


def test_an_abort_does_not_cut_prefill_short(stage: Any, newest: Library, steps: Any) -> None:
    """rknn-llm#400; what a deadline has to reckon with."""
    model = stage.load(newest, prefill_tokens_per_s=10)
    ids = [1, 2, 3]
    thread = threading.Thread(target=lambda: model.run(Tokens(ids=ids), steps))
    thread.start()
    while not stage.trace("run"):
        pass
    while not model.abort():
        pass
    thread.join(10)

    assert steps.states == ["FINISH"]
    assert steps[0].perf.prefill_ms == pytest.approx(300)


def test_a_second_call_during_a_run_is_refused_here(
    stage: Any, newest: Library, steps: Any
) -> None:
    """It would be the library's garbage otherwise."""
    model = stage.load(newest, decode_tokens_per_s=50)
    running = Running(model)
    assert running.reached.wait(10)

    with pytest.raises(BusyError):
        model.run(Tokens(ids=[1]), steps)
    with pytest.raises(BusyError):
        model.clear_kv_cache()
    model.abort()
    running.join()

    assert [line["overlap"] for line in stage.trace("run")] == [[]]


def test_closing_ends_a_run(stage: Any, library: Library) -> None:
    model = stage.load(library, decode_tokens_per_s=50)
    running = Running(model)
    assert running.reached.wait(10)
    model.close()
    running.join()

    assert running.result.aborted
    # An abort that is on its way when the run ends is traced after that.
    events = [line["event"] for line in stage.trace() if line["event"] != "abort"]
    assert events[-2:] == ["run_end", "destroy"]


def test_many_runs_leak_nothing(stage: Any, newest: Library) -> None:
    """Each gives and takes half a megabyte; peak memory stays that of the first few."""
    model = stage.load(newest, embd_size=64, log=False, trace=None, prefix_reuse=False)
    data = bytes(64 * 4 * 2000)

    def run(times: int) -> int:
        for _ in range(times):
            model.run(Embeddings(data=data, n_tokens=2000), lambda _: None, mode=Mode.HIDDEN_STATES)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = run(5)
    later = run(60)

    assert later - first < 5_000, "kB"


def test_many_models_come_and_go(stage: Any, newest: Library, steps: Any) -> None:
    path = stage.script(answer_tokens=3)
    for number in range(50):
        with Model(newest, ModelConfig(path=path)) as model:
            model.run(Tokens(ids=[number]), steps)

    assert len(stage.trace("destroy")) == 50
    assert len(steps.ids) == 150
