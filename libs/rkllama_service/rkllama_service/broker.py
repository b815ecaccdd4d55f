"""`python -m rkllama_service.broker init FOLDER ...`: users and configuration of the broker.

    FOLDER/nats-server.conf     for `nats-server -c`: users, permissions, limits; hashes only
    FOLDER/<user>.json          for one process, `RKLLAMA_NATS_CREDENTIALS_FILE`; mode 0600

Passwords that are there stay, names that are new are added. To take a user away, delete its file
and say it again without the name; nats-server reads the configuration again on SIGHUP.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import bcrypt
from rkllama_protocol.access import Credentials
from rkllama_protocol.names import InvalidNameError, token
from rkllama_protocol.permissions import permissions
from rkllama_protocol.subjects import ANY, Role, Subjects

from rkllama_service import private_file
from rkllama_service.broker_access import credentials
from rkllama_service.broker_config import Tls, User, render
from rkllama_service.process import SetupError, fail

CONFIG = "nats-server.conf"
ANY_WORKER = "workers"
"""The user that stands for a worker of any id."""
BCRYPT_ROUNDS = 4
"""The least: nobody guesses 256 random bits, and every board logs in again when the broker is back."""

Process = tuple[Role, str]
"""A role, and the name of one process of it."""


def init(
    folder: Path,
    processes: Iterable[Process],
    *,
    listen: str,
    monitor: str | None = None,
    tls: Tls | None = None,
    prefix: str = "rkllama",
) -> None:
    """Make or extend the files of a folder.

    Raises:
        SetupError: A name does not fit or is another role's, or a file cannot be read or written.
    """
    try:
        subjects = Subjects(prefix)
        wanted = [_blank(role, name) for role, name in processes]
    except InvalidNameError as error:
        raise SetupError(str(error)) from error
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {path.stem: credentials(path) for path in sorted(folder.glob("*.json"))}
        for one in wanted:
            before = known.setdefault(one.user, one)
            if (before.role, before.id) != (one.role, one.id):
                raise SetupError(f"the name {one.user!r} is a {before.role}'s already")
            if before is one:
                private_file.replace(folder / f"{one.user}.json", _text(one))
        users = [_user(one, subjects) for one in known.values()]
        text = render(users, listen=listen, monitor=monitor, tls=tls)
        private_file.replace(folder / CONFIG, text.encode())
    except OSError as error:
        raise SetupError(f"cannot write to {folder}: {error.strerror}") from error


def _blank(role: Role, name: str) -> Credentials:
    user = ANY_WORKER if (role, name) == ("worker", ANY) else token(name)
    return Credentials.model_validate(
        {
            "user": user,
            "password": secrets.token_urlsafe(32),
            "role": role,
            # A gateway's id is new at every start.
            "id": ANY if role == "gateway" else name,
        }
    )


def _text(one: Credentials) -> bytes:
    found = one.model_dump() | {"password": one.password.get_secret_value()}
    return json.dumps(found, indent=2).encode() + b"\n"


def _user(one: Credentials, subjects: Subjects) -> User:
    if one.role is None:
        raise SetupError(f"the file of {one.user!r} does not say its role")
    password = one.password.get_secret_value().encode()
    return User(
        name=one.user,
        password_hash=bcrypt.hashpw(password, bcrypt.gensalt(BCRYPT_ROUNDS)).decode(),
        permissions=permissions(one.role, one.id, user=one.user, subjects=subjects),
    )


def main(argv: list[str] | None = None) -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m rkllama_service.broker")
    command = parser.add_subparsers(required=True).add_parser("init", help="make or extend files")
    add = command.add_argument
    add("folder", type=Path)
    add("--gateway", nargs="+", action="extend", default=[], metavar="NAME")
    add("--store", nargs="+", action="extend", default=[], metavar="NAME")
    add("--worker", nargs="+", action="extend", default=[], metavar="NAME", help="'*': any id")
    add("--listen", default="127.0.0.1:4222", metavar="HOST:PORT")
    add("--monitor", metavar="HOST:PORT", help="of nats-server's own figures; none if not given")
    add("--prefix", default="rkllama", help="first part of every subject")
    add("--tls-cert", type=Path, metavar="FILE")
    add("--tls-key", type=Path, metavar="FILE")
    add("--tls-ca", type=Path, metavar="FILE", help="ask clients for a certificate of this one's")
    asked = parser.parse_args(argv)
    if (asked.tls_cert is None) != (asked.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    tls = None
    if asked.tls_cert is not None:
        tls = Tls(cert=asked.tls_cert, key=asked.tls_key, ca=asked.tls_ca)
    processes: list[Process] = [("gateway", name) for name in asked.gateway]
    processes += [("store", name) for name in asked.store]
    processes += [("worker", name) for name in asked.worker]
    try:
        init(
            asked.folder,
            processes,
            listen=asked.listen,
            monitor=asked.monitor,
            tls=tls,
            prefix=asked.prefix,
        )
    except SetupError as error:
        fail(error)


if __name__ == "__main__":
    main()
