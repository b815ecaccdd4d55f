"""The commands that talk to a server as any Ollama client does; `run` and `create` are in `talking`."""

from __future__ import annotations

import json as jsons
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from itertools import compress
from typing import Annotated

import typer
from rkllama_service.settings import read_shared

from rkllama_cli import bars, tables
from rkllama_cli.address import api_key, server_url
from rkllama_cli.api import Api, read
from rkllama_cli.errors import FAILED, INTERRUPTED, BrokenError, CliError, RefusedError
from rkllama_cli.flow import printable
from rkllama_cli.screen import console, is_terminal
from rkllama_cli.wire import Facts, Json, Models

NOT_TO_PULL = "pull model manifest: file does not exist"
"""Ollama's words for a name that means nothing where models are pulled from."""
GOES_ON = "the same command goes on where this one was"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

app = typer.Typer()


@contextmanager
def server() -> Iterator[Api]:
    """The server that the environment names."""
    shared = read_shared()
    url = server_url(shared, os.environ)
    with Api(url, key=api_key(shared, os.environ)) as api:
        yield api


def print_json(answer: object) -> None:
    """For programs."""
    print(jsons.dumps(answer, indent=2, ensure_ascii=False))


def bring(api: Api, model: str, *, stderr: bool = False) -> None:
    """Pull a model, and show how far it is."""
    try:
        bars.follow(api.pull(model), console(stderr=stderr))
    except BrokenError as error:
        raise CliError(f"{error}; {GOES_ON}") from error
    except KeyboardInterrupt:
        complain(f"stopped; {GOES_ON}")
        raise typer.Exit(INTERRUPTED) from None
    except RefusedError as error:
        if NOT_TO_PULL not in str(error):
            raise
        raise CliError(
            f"there is no model '{model}' to pull; models of the hub are hf.co/<user>/<repository>"
        ) from error


@app.command()
def pull(model: str) -> None:
    """Bring a model in, or go on with one that was interrupted."""
    with server() as api:
        bring(api, model)


Prefix = Annotated[str, typer.Argument(help="How their names begin; without it, all models.")]


@app.command("list")
def list_models(prefix: Prefix = "", *, json: AsJson = False) -> None:
    """List the models of the server."""
    with server() as api:
        answer = api.tags()
    found = read(answer, Models).models
    listed = [m.name.lower().startswith(prefix.lower()) for m in found]
    if json:
        print_json(list(compress(answer["models"], listed)))
    else:
        tables.models(compress(found, listed), console(), now=api.now)


@app.command("ls", hidden=True)
def ls(prefix: Prefix = "", *, json: AsJson = False) -> None:
    """As `list`."""
    list_models(prefix, json=json)


@app.command()
def ps(*, json: AsJson = False) -> None:
    """List the models that are loaded."""
    with server() as api:
        answer = api.ps()
    if json:
        print_json(answer["models"])
    else:
        tables.loaded(read(answer, Models).models, console(), now=api.now)


@app.command()
def show(
    model: str,
    *,
    modelfile: Annotated[bool, typer.Option("--modelfile", help="Its Modelfile.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Its parameters.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Its system message.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Its template.")] = False,
    license: Annotated[  # noqa: A002 - the option's name
        bool, typer.Option("--license", help="Its licence.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Everything known.")] = False,
    json: AsJson = False,
) -> None:
    """Show what is known about a model, or one of its parts as it is."""
    parts = {
        "modelfile": modelfile,
        "parameters": parameters,
        "system": system,
        "template": template,
        "license": license,
    }
    wanted = [name for name, asked in parts.items() if asked]
    if len(wanted) + json > 1:
        raise typer.BadParameter("ask for one part at a time")
    with server() as api:
        answer = api.show(model, verbose=verbose)
    if json:
        print_json(answer)
    elif wanted:
        _print_part(answer, wanted[0])
    else:
        tables.facts(read(answer, Facts), console(), verbose=verbose)


def _print_part(answer: Json, name: str) -> None:
    text = str(answer.get(name) or "")
    if sys.stdout.isatty():
        text = printable(text)
    print(text, end="" if text.endswith("\n") else "\n")


@app.command()
def cp(source: str, destination: str) -> None:
    """Give a model a second name."""
    with server() as api:
        api.copy(source, destination)
    print(f"copied '{source}' to '{destination}'")


@app.command()
def rm(models: list[str]) -> None:
    """Delete models; one that is loaded is unloaded first."""
    failed = False
    with server() as api:
        for model in models:
            try:
                _delete(api, model)
            except RefusedError as error:
                complain(error)
                failed = True
            else:
                print(f"deleted '{model}'")
    if failed:
        raise typer.Exit(FAILED)


def _delete(api: Api, model: str) -> None:
    loaded = {row.name for row in read(api.ps(), Models).models}
    if model in loaded or f"{model}:latest" in loaded:
        api.unload(model)
    api.delete(model)


@app.command()
def stop(models: list[str]) -> None:
    """Unload models."""
    with server() as api:
        for model in models:
            api.unload(model)
            print(f"stopped '{model}'")


@app.command()
def drain(workers: Annotated[list[str], typer.Argument(help="Ids of workers.")]) -> None:
    """Have workers end or hand over their answers, and stop, as SIGTERM does."""
    with server() as api:
        for worker in workers:
            api.drain(worker)
            print(f"draining '{worker}'")


@app.command()
def verify(model: Annotated[str, typer.Argument(help="Without it, all models.")] = "") -> None:
    """Read what is stored and compare it with its digests."""
    with server() as api:
        bars.follow(api.verify(model), console())


@app.command()
def version() -> None:
    """Print the version of this program, and what the server speaks."""
    print(f"rkllama {installed_version('rkllama')}")
    try:
        with server() as api:
            print(f"server at {api.url}, Ollama API {api.version()}")
    except CliError as error:
        print(f"({error})")


def complain(error: object) -> None:
    """One sentence for the person who typed the command; on a terminal, broken between words."""
    text = f"rkllama: {printable(str(error))}"
    if is_terminal(sys.stderr):
        width = shutil.get_terminal_size().columns
        # What is to be copied, such as an address, stays whole.
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{text}\n")
