"""How a process comes to the broker: what the settings say, read and checked."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from pydantic import ValidationError
from rkllama_protocol.access import Access, BrokerRefusedError, Credentials
from rkllama_protocol.bus import Bus
from rkllama_protocol.subjects import ANY, Role

from rkllama_service.process import SetupError
from rkllama_service.settings import Shared


async def connect(
    shared: Shared, *, role: Role, process_id: str = ANY, tasks: asyncio.TaskGroup
) -> Bus:
    """Connect to the broker as a process of this role; `process_id` where the role has one.

    Raises:
        SetupError: A file cannot be used, is another process's, or the broker refuses it.
    """
    access = await asyncio.to_thread(read, shared)
    _check_owner(access.credentials, role, process_id)
    name = role if process_id == ANY else f"{role} {process_id}"
    try:
        return await Bus.connect(shared.nats_url, name=name, tasks=tasks, access=access)
    except BrokerRefusedError as error:
        raise SetupError(str(error)) from error


def read(shared: Shared) -> Access:
    """What the settings name. Blocks.

    Raises:
        SetupError: A file cannot be read, or is not what it should be.
    """
    known = None
    if shared.nats_credentials_file is not None:
        known = credentials(shared.nats_credentials_file.expanduser())
    return Access(credentials=known, tls=_tls(shared))


def credentials(path: Path) -> Credentials:
    """One user's file; errors as `read`."""
    try:
        return Credentials.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SetupError(f"cannot read the credentials in {path}: {error.strerror}") from error
    except ValidationError as error:
        # What is in the file stays out of the sentence.
        reason = error.errors(include_input=False)[0]["msg"]
        raise SetupError(f"{path} is no file of credentials: {reason}") from error


def _tls(shared: Shared) -> ssl.SSLContext | None:
    ca, cert, key = shared.nats_tls_ca_file, shared.nats_tls_cert_file, shared.nats_tls_key_file
    if (cert is None) != (key is None):
        raise SetupError("RKLLAMA_NATS_TLS_CERT_FILE and RKLLAMA_NATS_TLS_KEY_FILE go together")
    if ca is None:
        if cert is not None:
            raise SetupError("RKLLAMA_NATS_TLS_CERT_FILE needs RKLLAMA_NATS_TLS_CA_FILE")
        return None
    try:
        context = ssl.create_default_context(cafile=ca.expanduser())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert is not None and key is not None:
            context.load_cert_chain(cert.expanduser(), key.expanduser())
    except OSError as error:
        raise SetupError(f"cannot use the certificates for the broker: {error}") from error
    return context


def _check_owner(known: Credentials | None, role: Role, process_id: str) -> None:
    if known is None or known.role is None:
        return
    if known.role != role or known.id not in {ANY, process_id}:
        whose = known.role if known.id == ANY else f"{known.role} {known.id}"
        me = role if process_id == ANY else f"{role} {process_id}"
        raise SetupError(f"the broker's user {known.user!r} is for the {whose}, not for the {me}")
