"""The simulator's model of time, held against the emulator itself: the same turns, no queue, no processes.

`make against` holds the whole stack against it, which a busy machine distorts; this is what no machine does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from rkllm_bindings import Library, ModelConfig, Tokens, load_library
from rkllm_bindings import Model as Loaded
from rkllm_bindings.emulator import build

from bench.against import WORD_ID, script
from bench.simulator.board import Equipment
from bench.simulator.policies import Claims
from bench.simulator.running import play
from bench.simulator.speeds import common, decode_s, prefill_s
from bench.simulator.traffic import MODELS, Conversation, Model, Turn

CLOCK = 10_000.0
"""Hours in seconds: what a run takes is read off the library's own figures."""
TURNS = (
    Turn(history=0, question=60, answer=120, pause_s=1.0),
    Turn(history=180, question=40, answer=30, pause_s=1.0),
    Turn(history=250, question=1, answer=1, pause_s=1.0),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return load_library(build("abi-1.3.0", tmp_path_factory.mktemp("emulator")))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_an_emulated_board_takes_what_the_simulator_says(
    library: Library, tmp_path: Path, model: Model
) -> None:
    talk = Conversation(name="c", model=model, begins_s=0.0, turns=TURNS)
    path = script(model, clock=CLOCK).write(tmp_path / "m.rkllm")
    first_s: list[float] = []
    decoded_s: list[float] = []
    held: list[int] = []
    with Loaded(library, ModelConfig(path=path, max_context_len=4096)) as board:
        for turn in TURNS:
            # Whatever the question is, it is no word that the model says.
            prompt = [*held, *[1] * turn.question]
            unread = len(prompt) - common(prompt, held)
            result = board.run(Tokens(ids=prompt), lambda _: None, max_new_tokens=turn.answer)
            assert result.perf is not None
            assert result.perf.prefill_tokens == unread
            first_s.append(result.perf.prefill_ms / 1e3 * CLOCK)
            decoded_s.append(result.perf.generate_ms / 1e3 * CLOCK)
            held = [*prompt, *[WORD_ID] * turn.answer]
    played = play([talk], Claims, boards=1, equipment=Equipment(), models=[model])
    ttft_s = [one.ttft_s for one in played.served]

    assert first_s == pytest.approx([prefill_s(model.speeds, turn.question) for turn in TURNS])
    first_s[0] += model.speeds.load_s
    assert ttft_s == pytest.approx(first_s)
    # The library counts a step for the first token too, which comes with the prompt's end.
    step_s = model.speeds.decode_s_per_token
    assert decoded_s == pytest.approx(
        [decode_s(model.speeds, turn.answer) + step_s for turn in TURNS]
    )


@pytest.mark.parametrize(
    ("prompt", "held", "same"),
    [
        ([1, 2, 3], [], 0),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2, 3], [1, 9, 3], 1),
        ([1, 2, 3], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2, 3, 4], 2),
    ],
)
def test_the_last_token_of_a_prompt_is_always_read(
    prompt: list[int], held: list[int], same: int
) -> None:
    assert common(prompt, held) == same
