"""The command line: `rkllama serve` runs the system, everything else talks HTTP to it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rkllama_service import logs, process
from rkllama_service.process import SetupError
from rkllama_service.settings import read_shared
from typer.core import TyperGroup

from rkllama_cli import commands, key_commands, talking
from rkllama_cli.address import LARGEST_PORT, listen_address
from rkllama_cli.errors import FAILED, CliError
from rkllama_cli.serve import Plan, serve


class _Commands(TyperGroup):
    """The commands; what goes wrong in one is a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SetupError as error:
            process.fail(error)
        except CliError as error:
            commands.complain(error)
            raise typer.Exit(FAILED) from error


app = typer.Typer(
    help="Ollama for Rockchip NPUs.",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


_RUNTIME = typer.Option(envvar="RKLLAMA_WORKER_RUNTIME", help="auto, rkllm or cpu.")


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        commands.version()
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-v", callback=_version, is_eager=True, help="As the command version."
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST_PORT,
            envvar="RKLLAMA_GATEWAY_PORT",
            help="Port; without it 8080, and 11434 too if it is free.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of models and logs.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many workers to run.")] = 1,
    runtime: Annotated[str, _RUNTIME] = "auto",
    rkllm_library: Annotated[Path | None, typer.Option(help="Path of librkllmrt.so.")] = None,
    nats: Annotated[
        str | None, typer.Option(envvar="RKLLAMA_NATS_URL", help="URL of a broker to use.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more.")] = False,  # noqa: FBT002
) -> None:
    """Run the whole system on this machine."""
    shared = read_shared()
    said_host, said_port = listen_address(shared, os.environ)
    folder = data.expanduser().absolute() if data else shared.data_dir
    plan = Plan(
        host=host or said_host,
        port=said_port if host is None and port is None else port,
        data=folder,
        auth=shared.auth if "auth" in shared.model_fields_set else None,
        keys=shared.keys_path(folder),
        workers=workers,
        runtime=runtime,
        rkllm_library=rkllm_library or shared.rkllm_library,
        nats_url=nats,
        debug=debug or shared.debug,
    )
    logs.configure(debug=plan.debug, data_dir=plan.data)
    code = 0

    async def main(stop: asyncio.Event) -> None:
        nonlocal code
        code = await serve(plan, stop)

    process.run(main)
    raise typer.Exit(code)


@app.command()
def doctor(
    data: Annotated[Path | None, typer.Option(help="Folder of models.")] = None,
    runtime: Annotated[str, _RUNTIME] = "auto",
    rkllm_library: Annotated[Path | None, typer.Option(help="Path of librkllmrt.so.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002
) -> None:
    """Say what this machine has, what is missing, and how to mend it."""
    env = dict(os.environ)
    if data is not None:
        env["RKLLAMA_DATA"] = str(data.expanduser().absolute())
    if rkllm_library is not None:
        env["RKLLAMA_RKLLM_LIBRARY"] = str(rkllm_library)
    env["RKLLAMA_WORKER_RUNTIME"] = runtime
    # The worker's own entry point: it sees what a worker would see.
    argv = [sys.executable, "-m", "rkllama_worker.doctor", *(["--json"] if json else [])]
    os.execve(argv[0], argv, env)  # noqa: S606


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="The folder of models to take over.")],
    data: Annotated[Path | None, typer.Option(help="Folder of models to fill.")] = None,
) -> None:
    """Take over the models of an existing RKLLAMA folder."""
    env = dict(os.environ)
    if data is not None:
        env["RKLLAMA_DATA"] = str(data.expanduser().absolute())
    # The store's own entry point: nobody else writes to its folder.
    argv = [sys.executable, "-m", "rkllama_store.importer", str(folder)]
    os.execve(argv[0], argv, env)  # noqa: S606


app.add_typer(talking.app)
app.add_typer(commands.app)
app.add_typer(key_commands.app, name="key")


def main() -> None:
    """Entry point of the `rkllama` script."""
    app()


if __name__ == "__main__":
    main()
