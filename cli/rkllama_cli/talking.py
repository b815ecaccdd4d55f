"""`rkllama run` and `rkllama create`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rkllama_modelfile import ModelfileError, typed_parameters
from rkllama_modelfile import warnings as left_out
from rkllama_service.process import SetupError
from typer.core import TyperCommand

from rkllama_cli import bars, chat, uploading
from rkllama_cli.api import Api, read
from rkllama_cli.asking import ask
from rkllama_cli.chat import THINK_LEVELS, Chat
from rkllama_cli.commands import bring, complain, server
from rkllama_cli.editor import Editor, history_path
from rkllama_cli.errors import INTERRUPTED, CliError, RefusedError
from rkllama_cli.repl import Repl, with_images
from rkllama_cli.screen import console, is_terminal, waiting
from rkllama_cli.wire import Facts

app = typer.Typer()

_THINK = {"true": True, "false": False} | {level: level for level in THINK_LEVELS}


class _Run(TyperCommand):
    """The command, whose `--think` needs no value, as Ollama's does not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        whole = ["--think=true" if option == "--think" else option for option in options]
        return super().parse_args(ctx, whole + args[len(options) :])


@app.command(cls=_Run)
def run(
    model: str,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Without it, and at a terminal, a chat.")
    ] = None,
    *,
    system: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Such as temperature=0.2."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer.")] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option(help="json, or a JSON schema.")
    ] = "",
    keepalive: Annotated[
        str, typer.Option(help="How long it stays loaded: 10m, 0, -1 for ever.")
    ] = "",
    think: Annotated[
        str,
        typer.Option(
            metavar="[=LEVEL]", help="Have it think first: true, false, high, medium, low or max."
        ),
    ] = "",
    nothink: Annotated[bool, typer.Option("--nothink", help="As --think=false.")] = False,
    hidethinking: Annotated[
        bool, typer.Option("--hidethinking", help="Do not show what it thinks.")
    ] = False,
    nowordwrap: Annotated[
        bool, typer.Option("--nowordwrap", help="Do not break lines between words.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show timings.")] = False,
) -> None:
    """Talk to a model; one that is not there is pulled first."""
    begun = Chat(
        model=model,
        system=system,
        parameters=_parameters(option or [], seed),
        format=_format(format),
        think=False if nothink else _think(think),
        keep_alive=keep_alive(keepalive),
        verbose=verbose,
        wrap=not nowordwrap,
        history=not os.environ.get("OLLAMA_NOHISTORY"),
        hide_thinking=hidethinking,
    )
    interactive = not prompt and is_typed()
    if interactive and not is_terminal(sys.stdout):
        raise SetupError("a chat needs a terminal; give the prompt as an argument")
    with server() as api:
        facts = _facts(api, model)
        if interactive:
            _talk(api, begun, facts)
        else:
            _answer_once(api, begun, _whole_prompt(prompt or []))


def is_typed() -> bool:
    """Whether a person types at the input."""
    return sys.stdin is not None and sys.stdin.isatty()


def keep_alive(text: str) -> str | float | None:
    """As the API wants it: seconds are a number, anything else is a text such as `10m`."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        return text
    return int(seconds) if seconds is not None and seconds.is_integer() else seconds


def _parameters(options: list[str], seed: int | None) -> dict[str, Any]:
    pairs = [(name.strip(), value) for name, _, value in (text.partition("=") for text in options)]
    if seed is not None:
        pairs.append(("seed", str(seed)))
    try:
        return typed_parameters(pairs)
    except ModelfileError as error:
        raise typer.BadParameter(str(error)) from error


def _think(text: str) -> bool | str | None:
    if text and text not in _THINK:
        raise typer.BadParameter(f"--think is one of {', '.join(_THINK)}, not {text}")
    return _THINK.get(text)


def _format(text: str) -> str | dict[str, Any]:
    try:
        return chat.parsed_format(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _facts(api: Api, model: str) -> Facts:
    """What is known about a model, which is pulled if it is not there."""
    try:
        answer = api.show(model)
    except RefusedError as error:
        if not error.not_found:
            raise
        # What is printed on the output is the answer alone.
        bring(api, model, stderr=True)
        answer = api.show(model)
    facts = read(answer, Facts)
    if "embedding" in facts.capabilities and "completion" not in facts.capabilities:
        raise CliError(f"'{model}' makes embeddings and cannot talk")
    return facts


def _whole_prompt(words: list[str]) -> str:
    """What came through a pipe, and then what was typed."""
    piped = ""
    if sys.stdin is not None and not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode(errors="replace").strip()
    return "\n\n".join(part for part in (piped, " ".join(words)) if part.strip())


def _talk(api: Api, begun: Chat, facts: Facts) -> None:
    editor = Editor(history_path(os.environ))
    Repl(api, begun, editor, out=console(), err=console(stderr=True)).run(facts)


def _answer_once(api: Api, begun: Chat, prompt: str) -> None:
    err = console(stderr=True)
    if not prompt:
        # As with Ollama, nothing to ask means: load it.
        with waiting(err, f"loading {begun.model}"):
            api.load(begun.model, **chat.loading(begun))
        return
    question = with_images(begun, prompt, lambda text: err.print(text, markup=False))
    _, whole = ask(api, question, err=err)
    if not whole:
        raise typer.Exit(INTERRUPTED)


@app.command()
def create(
    model: str,
    *,
    file: Annotated[str, typer.Option("--file", "-f", help="The Modelfile; - is the input.")] = (
        "Modelfile"
    ),
    quantize: Annotated[str, typer.Option("--quantize", "-q", help="Such as q4_K_M.")] = "",
) -> None:
    """Make a model from a Modelfile, Ollama's or RKLLAMA's."""
    data, folder = _modelfile(file)
    recipe = uploading.read_recipe(data, folder)
    for sentence in left_out(recipe.modelfile):
        complain(sentence)
    # What cannot be taken is said before gigabytes are on their way.
    uploading.check(recipe)
    with server() as api, bars.showing(console()) as shown:
        digests = uploading.upload(api, recipe, shown)
        body = uploading.body(recipe, digests) | ({"quantize": quantize} if quantize else {})
        for record in api.create({"model": model, **body}):
            shown.show(record)


def _modelfile(name: str) -> tuple[bytes, Path]:
    """The bytes, and the folder that its paths are relative to."""
    if name == "-":
        return sys.stdin.buffer.read(), Path()
    path = Path(name).expanduser()
    try:
        return path.read_bytes(), path.parent
    except OSError as error:
        raise CliError(f"cannot read the Modelfile {path}: {error.strerror}") from error
