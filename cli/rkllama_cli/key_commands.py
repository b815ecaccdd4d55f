"""`rkllama key`: the file of keys beside the gateway is changed, no server is talked to.

So the first key can be made before anything runs, and whoever can write to the folder needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rkllama_service import key_file
from rkllama_service.key_file import KeyFileError
from rkllama_service.keys import Keys, Scope
from rkllama_service.settings import read_shared

from rkllama_cli import tables
from rkllama_cli.commands import AsJson, print_json
from rkllama_cli.errors import CliError
from rkllama_cli.screen import console

Data = Annotated[Path | None, typer.Option(help="Data folder of the server.")]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of a server here.")


@app.command()
def create(
    name: str,
    *,
    scope: Annotated[
        Scope, typer.Option(help="infer: ask and read; admin: change models too.")
    ] = Scope.INFER,
    data: Data = None,
) -> None:
    """Make a key and print it; it is shown only now."""
    path = _path(data)
    with _sentences():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = key_file.create(path, name, scope, now=datetime.now(UTC))
    print(text)
    sys.stderr.write(f"this key is shown only now; {path} keeps no more than its hash\n")


@app.command("list")
def list_keys(*, data: Data = None, json: AsJson = False) -> None:
    """List the keys, without their texts."""
    with _sentences():
        keys = key_file.load(_path(data)) or Keys()
    if json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in keys.keys])
    else:
        tables.keys(keys.keys, console(), now=datetime.now(UTC))


@app.command()
def revoke(name: str, *, data: Data = None) -> None:
    """Delete a key; a running server refuses it within a second."""
    with _sentences():
        key_file.revoke(_path(data), name)
    print(f"revoked '{name}'")


def _path(data: Path | None) -> Path:
    return read_shared().keys_path(data.expanduser().absolute() if data else None)


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"cannot use the folder {error.filename}: {error.strerror}") from error
