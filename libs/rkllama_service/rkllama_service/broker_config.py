"""The configuration of nats-server as this system needs it: users, what each may do, and limits.

nats-server reads JSON as it reads its own format, so that nothing has to be quoted by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rkllama_protocol.permissions import RESPONSE_S, RESPONSES, Permissions

LIMITS: Mapping[str, object] = {
    # Bodies that are larger are read in pieces.
    "max_payload": 2**20,
    # What waits for one client; a process that reads too slowly is cut off alone.
    "max_pending": 32 * 2**20,
    "write_deadline": "5s",
    "max_connections": 1024,
    "max_subscriptions": 1024,
    # A subject has five ids of at most 64 characters.
    "max_control_line": 2048,
    "ping_interval": "20s",
    "ping_max": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user of the broker."""

    name: str
    password_hash: str
    """bcrypt."""
    permissions: Permissions


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates as the server names them; with `ca`, clients have to show one too."""

    cert: Path
    key: Path
    ca: Path | None = None


def render(
    users: Iterable[User], *, listen: str, monitor: str | None = None, tls: Tls | None = None
) -> str:
    """The text of `nats-server.conf`. `listen` and `monitor` are `host:port`."""
    found: dict[str, object] = {"listen": listen, **LIMITS}
    if monitor is not None:
        found["http"] = monitor
    if tls is not None:
        found["tls"] = {
            "cert_file": str(tls.cert),
            "key_file": str(tls.key),
            **({"ca_file": str(tls.ca), "verify": True} if tls.ca is not None else {}),
            # The password never goes out in clear, whoever is between.
            "handshake_first": True,
        }
    found["authorization"] = {"timeout": 5, "users": [_user(user) for user in users]}
    return f"# Made by `python -m rkllama_service.broker init`.\n{json.dumps(found, indent=2)}\n"


def _user(user: User) -> dict[str, object]:
    return {
        "user": user.name,
        "password": user.password_hash,
        "permissions": {
            "publish": {"allow": list(user.permissions.publish)},
            "subscribe": {"allow": list(user.permissions.subscribe)},
            "allow_responses": {"max": RESPONSES, "expires": f"{RESPONSE_S}s"},
        },
    }
