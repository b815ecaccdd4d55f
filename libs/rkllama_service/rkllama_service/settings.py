"""What processes can be told from outside: environment variables, read once, in `__main__`.

Each service has a class of its own, whose fields are `RKLLAMA_<SERVICE>_<FIELD>`. The few that
every service shares are the fields of `Shared`, `RKLLAMA_<FIELD>`. Any other variable that begins
with `RKLLAMA_` is refused by name: pydantic-settings would ignore a misspelt one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rkllama_service.keys import Auth
from rkllama_service.ollama_variables import stand_ins
from rkllama_service.process import SetupError

PREFIX = "RKLLAMA_"
KEYS = "keys.json"
BROKER_SCHEMES = ("nats", "tls")
SERVICE_PREFIXES = ("RKLLAMA_GATEWAY_", "RKLLAMA_WORKER_", "RKLLAMA_STORE_")

S = TypeVar("S", bound=BaseSettings)


class Shared(BaseSettings):
    """The variables that every service and the command line share."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    host: str = "127.0.0.1"
    """Address that is listened on; for the command line, the server it talks to, also as a URL or with a port."""
    data: Path = Path("~/RKLLAMA")
    """Folder of models, logs and keys."""
    nats_url: str = "nats://127.0.0.1:4222"
    """The broker."""
    nats_credentials_file: Path | None = None
    """File with this process's user of the broker, as `python -m rkllama_service.broker init` makes it."""
    nats_tls_ca_file: Path | None = None
    """Certificates that the broker's is checked against; with it, the connection is TLS from its first byte."""
    nats_tls_cert_file: Path | None = None
    """This process's own certificate, where the broker asks for one."""
    nats_tls_key_file: Path | None = None
    """The key of that certificate."""
    platform: str = ""
    """SoC, where it cannot be detected: `rk3588`, `rk3576`, `rk3562`, `rv1126b`."""
    rkllm_library: Path | None = None
    """Path of `librkllmrt.so`."""
    rkllm_abi: str = ""
    """ABI family of the library, where it cannot be told: `abi-1.1` to `abi-1.3.0`."""
    debug: bool = False
    """Log more, also to `rkllama_debug.log` in the data folder, and serve `/api/debug`."""
    api_key: str = ""
    """The key that the command line sends."""
    auth: Auth = Auth.OFF
    """What takes a key: nothing (`off`), changing models (`admin`), or every request (`all`)."""
    keys_file: Path | None = None
    """The file that the keys' hashes are in; `keys.json` in the data folder if none is given."""

    @field_validator("nats_url")
    @classmethod
    def _is_of_a_broker(cls, text: str) -> str:
        url = urlsplit(text if "://" in text else f"nats://{text}")
        if url.scheme not in BROKER_SCHEMES or not url.hostname:
            raise ValueError(f"{text!r} is no URL of a broker, such as nats://127.0.0.1:4222")
        # Reading it checks it.
        _ = url.port
        return text

    @property
    def data_dir(self) -> Path:
        """`data` with `~` expanded, absolute."""
        return self.data.expanduser().absolute()

    def keys_path(self, data: Path | None = None) -> Path:
        """Where the keys are, absolute; `data` stands for the data folder if it is given."""
        if self.keys_file is not None:
            return self.keys_file.expanduser().absolute()
        return (data or self.data_dir) / KEYS


def unknown_variables(environ: Mapping[str, str], service: type[BaseSettings] | None) -> list[str]:
    """The `RKLLAMA_` variables that nobody would read; those of other services are theirs to check."""
    known = {PREFIX + name.upper() for name in Shared.model_fields}
    own = ""
    if service is not None:
        own = service.model_config.get("env_prefix", "")
        known |= {own + name.upper() for name in service.model_fields}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX)
        and name not in known
        and not any(name.startswith(p) for p in SERVICE_PREFIXES if p != own)
    )


def read_shared(service: type[BaseSettings] | None = None) -> Shared:
    """The shared variables, after refusing unknown ones.

    Raises:
        SetupError: A variable is unknown, or its value does not fit.
    """
    if unknown := unknown_variables(os.environ, service):
        raise SetupError(f"unknown variable {', '.join(unknown)}; see docs/configuration.md")
    return _build(Shared)


def read(service: type[S]) -> tuple[S, Shared]:
    """A service's own settings and the shared ones; errors as `read_shared`."""
    shared = read_shared(service)
    return _build(service), shared


def _build(kind: type[S]) -> S:
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind(**stand_ins(os.environ, prefix, kind.model_fields))
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{prefix}{'_'.join(map(str, first['loc']))}".upper()
        raise SetupError(f"{name}: {first['msg']}") from error
