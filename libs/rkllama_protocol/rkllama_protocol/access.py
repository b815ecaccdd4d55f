"""With what a process comes to the broker: its user's name and password, and TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rkllama_protocol.subjects import ANY, Role

USER = r"^[A-Za-z0-9_-]{1,64}$"
"""A user's name is one part of the subjects of its inbox."""


class BrokerRefusedError(Exception):
    """The broker does not let this process in: a person has to mend that."""


class Credentials(BaseModel):
    """The file of one user, made by `python -m rkllama_service.broker init`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    user: str = Field(pattern=USER)
    password: SecretStr
    role: Role | None = None
    id: str = ANY
    """The process that this user speaks as; `*` for any of its role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to connect; without anything, as nobody and in clear."""

    credentials: Credentials | None = None
    tls: ssl.SSLContext | None = None


OPEN = Access()
