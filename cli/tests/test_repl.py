"""The chat on a real terminal of 80 columns, as a person sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.tests.scripted import CUT, HANG_S, Hold, Reply, Scripted, model, said, scripted
from cli.tests.terminal import CTRL_C, CTRL_D, UP, Terminal

LOADED = Reply(body={"done": True, "done_reason": "load"})
Start = Callable[..., Terminal]


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as script:
        script.on("POST /api/show", model())
        script.on("POST /api/generate", LOADED)
        script.on("POST /api/chat", Reply(stream=said("Hello", " there.")))
        yield script


@pytest.fixture
def start(server: Scripted, tmp_path: Path) -> Iterator[Start]:
    terminals: list[Terminal] = []

    def begin(*options: str) -> Terminal:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RKLLAMA_HOST": server.url,
            "LANG": "C.UTF-8",
        }
        terminals.append(Terminal("run", "m", *options, env=env))
        terminals[-1].ready()
        return terminals[-1]

    yield begin
    for terminal in terminals:
        terminal.close()


def test_a_conversation(server: Scripted, start: Start) -> None:
    terminal = start()
    terminal.enter("hi")
    terminal.see("Hello there.")
    terminal.ready()
    terminal.enter('"""two')
    terminal.enter('lines"""')
    terminal.see("Hello there.", times=2)
    terminal.ready()

    assert terminal.lines == [
        ">>> hi",
        "Hello there.",
        '>>> """two',
        '... lines"""',
        "Hello there.",
        ">>> Send a message (/? for help)",
    ]
    assert server.bodies("/api/chat")[1]["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "two\nlines"},
    ]
    terminal.type(CTRL_D)
    assert terminal.ends() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(server: Scripted, start: Start) -> None:
    hold = Hold()
    server.on(
        "POST /api/chat",
        Reply(stream=(*said("A long")[:-1], hold)),
        Reply(stream=said("Again.")),
    )
    terminal = start()
    terminal.enter("hi")
    terminal.see("A long")
    terminal.type(CTRL_C)
    assert hold.left.wait(HANG_S)
    terminal.ready()
    terminal.enter("more")
    terminal.see("Again.")

    assert server.bodies("/api/chat")[1]["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "A long"},
        {"role": "user", "content": "more"},
    ]


def test_a_question_that_was_stopped_before_its_answer_is_forgotten(
    server: Scripted, start: Start
) -> None:
    hold = Hold()
    server.on("POST /api/chat", Reply(stream=(hold,)), Reply(stream=said("Again.")))
    terminal = start()
    terminal.enter("hi")
    assert hold.reached.wait(HANG_S)
    terminal.type(CTRL_C)
    assert hold.left.wait(HANG_S)
    terminal.ready()
    terminal.enter("more")
    terminal.see("Again.")

    assert server.bodies("/api/chat")[1]["messages"] == [{"role": "user", "content": "more"}]


def test_ctrl_c_at_the_prompt_clears_the_line_and_then_says_how_to_leave(start: Start) -> None:
    terminal = start()
    terminal.type("half a line")
    terminal.see("half a line")
    terminal.type(CTRL_C)
    terminal.ready()
    assert "Use Ctrl-D" not in "\n".join(terminal.lines)
    terminal.type(CTRL_C)
    terminal.see("Use Ctrl-D or /bye to leave.")
    terminal.ready()
    terminal.enter("/bye")

    assert terminal.ends() == 0


def test_thinking_is_dimmed_and_words_are_not_broken(server: Scripted, start: Start) -> None:
    words = ["An", *[" answer"] * 15]
    server.on("POST /api/chat", Reply(stream=said("\n\n", *words, thinking=("Hm, ", "well"))))
    terminal = start("--think")
    terminal.enter("hi")
    terminal.see("done thinking")
    terminal.ready()

    assert terminal.lines[1:4] == ["Thinking ...", "Hm, well", "... done thinking."]
    assert all(map(terminal.dim, ["Thinking ...", "Hm, ", "well", "... done thinking."]))
    assert terminal.lines[4:6] == ["An" + " answer" * 11, "answer answer answer answer"]
    assert server.bodies("/api/chat")[0]["think"] is True


def test_settings_reach_the_next_request(server: Scripted, start: Start) -> None:
    server.on("POST /api/chat", Reply(stream=said("Hi.", eval_count=3, eval_duration=10**9)))
    server.on("POST /api/show", model(parameters="seed       1", template="{{ .Prompt }}"))
    terminal = start()
    for line in (
        "/set parameter temperature 0.2",
        "/set system You are brief.",
        "/set verbose",
        "/show parameters",
        "/show template",
        "hi",
    ):
        terminal.enter(line)
        terminal.see(f">>> {line}")
        terminal.ready()

    assert "  seed 1" in terminal.lines
    assert "  temperature 0.2" in terminal.lines
    assert "{{ .Prompt }}" in terminal.lines
    assert "eval rate             3.00 tokens/s" in terminal.lines
    assert server.bodies("/api/chat") == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "hi"},
            ],
            "options": {"temperature": 0.2},
        }
    ]


def test_what_goes_wrong_is_told_and_the_conversation_goes_on(
    server: Scripted, start: Start
) -> None:
    server.on(
        "POST /api/chat",
        Reply(status=400, body={"error": "m does not support vision"}),
        Reply(stream=({"message": {"content": "Hel"}}, CUT)),
        Reply(stream=said("Hello.")),
    )
    terminal = start()
    for line, answer in (
        ("one", "Error: m does not support vision"),
        ("two", "broke before the answer was"),
        ("three", "Hello."),
    ):
        terminal.enter(line)
        terminal.see(answer)
        terminal.ready()

    assert server.bodies("/api/chat")[2]["messages"] == [{"role": "user", "content": "three"}]


def test_a_conversation_is_saved_and_another_model_loaded(server: Scripted, start: Start) -> None:
    server.on("POST /api/create", Reply(stream=({"status": "success"},)))
    terminal = start("--system", "Be brief.")
    terminal.enter("hi")
    terminal.see("Hello there.")
    terminal.ready()
    terminal.enter("/save mine")
    terminal.see("The conversation is kept as mine.")
    server.on("POST /api/show", model(messages=[{"role": "user", "content": "An old question"}]))
    terminal.ready()
    terminal.enter("/load mine")
    terminal.see("This is mine.")
    terminal.ready()
    terminal.enter("and?")
    terminal.see("Hello there.", times=2)

    assert ">>> An old question" in terminal.lines
    assert server.bodies("/api/create") == [
        {
            "model": "mine",
            "from": "m",
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "Hello there."},
            ],
        }
    ]
    assert server.bodies("/api/generate")[-1] == {"model": "mine"}
    # What a model comes with is the server's to add.
    last = server.bodies("/api/chat")[-1]
    assert (last["model"], last["messages"]) == ("mine", [{"role": "user", "content": "and?"}])


def test_what_was_typed_is_there_next_time_unless_it_shall_not(
    start: Start, tmp_path: Path
) -> None:
    first = start()
    for line in ("remember me", "/set nohistory", "forget me"):
        first.enter(line)
        first.see(f">>> {line}")
        first.ready()
    first.type(CTRL_D)
    first.ends()
    history = tmp_path / ".local" / "state" / "rkllama" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "forget me" not in history.read_text()

    again = start()
    again.type(UP)
    again.see("/set nohistory")
    again.type(UP)
    again.see(">>> remember me")


def test_a_pasted_text_of_several_lines_is_one_message(server: Scripted, start: Start) -> None:
    terminal = start()
    terminal.type("\x1b[200~one\ntwo\x1b[201~")
    terminal.see("... two")
    terminal.enter("")
    terminal.see("Hello there.")

    assert server.bodies("/api/chat")[0]["messages"] == [{"role": "user", "content": "one\ntwo"}]


def test_what_is_typed_ahead_is_not_in_the_answer(server: Scripted, start: Start) -> None:
    hold = Hold()
    server.on(
        "POST /api/chat",
        Reply(stream=(*said("One")[:-1], hold, *said(" two."))),
        Reply(stream=said("Three.")),
    )
    terminal = start()
    terminal.enter("hi")
    terminal.see("One")
    terminal.enter("more")
    hold.release()
    terminal.see("Three.")

    assert terminal.lines[:4] == [">>> hi", "One two.", ">>> more", "Three."]


def test_ctrl_c_ends_a_single_answer_with_its_own_code(server: Scripted, tmp_path: Path) -> None:
    hold = Hold()
    server.on("POST /api/chat", Reply(stream=(*said("A long")[:-1], hold)))
    env = {"HOME": str(tmp_path), "RKLLAMA_HOST": server.url}
    terminal = Terminal("run", "m", "hi", env=env)
    try:
        terminal.see("A long")
        terminal.type(CTRL_C)
        code = terminal.ends()
    finally:
        terminal.close()

    assert code == 130
    assert hold.left.wait(HANG_S)
    assert terminal.lines == ["A long"]


def test_a_pull_on_a_terminal_has_bars_that_ctrl_c_leaves_in_place(
    server: Scripted, tmp_path: Path
) -> None:
    hold = Hold()
    layer = {"status": "pulling 0123456789ab", "digest": "sha256:0", "total": 4_000_000_000}
    server.on(
        "POST /api/pull",
        Reply(stream=({"status": "pulling manifest"}, {**layer, "completed": 10**9}, hold)),
    )
    terminal = Terminal("pull", "m", env={"HOME": str(tmp_path), "RKLLAMA_HOST": server.url})
    try:
        terminal.see("1.0 GB/4.0 GB")
        terminal.type(CTRL_C)
        code = terminal.ends()
    finally:
        terminal.close()

    assert code == 130
    assert hold.left.wait(HANG_S)
    assert terminal.lines[0] == "  pulling manifest"
    # Nothing turns any more.
    assert terminal.lines[1].startswith("  pulling 0123456789ab")
    assert " 25% 1.0 GB/4.0 GB" in terminal.lines[1]
    assert terminal.lines[2:] == ["rkllama: stopped; the same command goes on where this one was"]


def test_a_refusal_on_a_terminal_is_broken_between_words(server: Scripted, tmp_path: Path) -> None:
    """What it names can be copied."""
    missing = {"error": "pull model manifest: file does not exist"}
    server.on("POST /api/pull", Reply(stream=({"status": "pulling manifest"}, missing)))
    terminal = Terminal("pull", "nope", env={"HOME": str(tmp_path), "RKLLAMA_HOST": server.url})
    try:
        code = terminal.ends()
    finally:
        terminal.close()

    assert code == 1
    assert terminal.lines == [
        "  pulling manifest",
        "rkllama: there is no model 'nope' to pull; models of the hub are",
        "hf.co/<user>/<repository>",
    ]
