"""What the gateway can be told from outside. Read once, in `__main__`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from rkllama_policy.rate import Rate
from rkllama_service.http import Certificate

from rkllama_gateway.wire import WireLimits


class Settings(BaseSettings):
    """One gateway. Each field is the variable `RKLLAMA_GATEWAY_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="RKLLAMA_GATEWAY_", frozen=True)

    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the API, probes and metrics; 0 takes a free one. The address is `RKLLAMA_HOST`."""
    ollama_port: int = Field(default=0, ge=0, le=65535)
    """A second port for the same API, opened if it is free; 0 for none."""
    published_host: str = ""
    """Address that others reach this gateway at, where it is not `RKLLAMA_HOST`: a container's port is published on it. It decides which hosts are answered and, unless `RKLLAMA_AUTH` does, whether a key is needed; the first one is made and printed."""
    expected_workers: int = Field(default=1, ge=0)
    """`GET /` answers once so many workers, and the store, have been ready at the same time."""
    no_worker_s: float = Field(default=30.0, gt=0)
    """How long a request waits when no worker there is could run its model."""
    max_waiting: int = Field(default=512, ge=1)
    """Bound of waiting requests for each model and class, over all gateways; more are refused with 503."""
    max_waiting_per_key: int = Field(default=0, ge=0)
    """The same for each key, in this gateway; 0 is no bound."""
    max_running_per_key: int = Field(default=0, ge=0)
    """How many requests of a key workers are offered at a time, by this gateway; the others wait. 0 is no bound."""
    max_wait_s: float = Field(default=0.0, ge=0)
    """Deadline of a request that names none: if no worker takes it in that time, it fails; 0 is none."""
    context_length: int = Field(default=0, ge=0)
    """Tokens of context where neither request nor model says; 0 leaves it to the worker."""
    origins: str = ""
    """Origins of web pages that may ask, beside the built-in ones; commas between, one `*` in each."""
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    """Most bytes of a request's body, but for blobs; a larger one is refused with 413."""
    max_bodies_bytes: int = Field(default=64 * 2**20, gt=0)
    """Most bytes of all bodies above 64 KiB together, each until its request is answered; more are refused with 503. A single one may have `MAX_BODY_BYTES` in any case."""
    max_head_bytes: int = Field(default=32 * 2**10, ge=1024)
    """Most bytes of a request's line and headers; more are refused with 431."""
    max_head_fields: int = Field(default=100, ge=8)
    """Most headers of a request; more are refused with 431."""
    head_timeout_s: float = Field(default=10.0, gt=0)
    """How long a connection may take to send its next request's headers."""
    slow_client_s: float = Field(default=30.0, gt=0)
    """How far a client may fall behind 1 KiB/s while it sends a body (408) or reads an answer (it is cut off)."""
    max_connections: int = Field(default=1024, ge=1)
    """Most connections at a time; the next ones are told so with 503."""
    max_connections_per_address: int = Field(default=256, ge=0)
    """The same of one address, which a proxy in front has for all; 0 is no bound."""
    rate_per_minute: float = Field(default=0.0, ge=0)
    """Requests a minute of each key, or of each address that shows none; more are refused with 429. 0 is no bound."""
    rate_burst: int = Field(default=20, ge=1)
    """How many of them may come at once after a pause."""
    tls_cert_file: Path | None = None
    """Certificate, with its chain, that the ports are served with as HTTPS."""
    tls_key_file: Path | None = None
    """The key of that certificate."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long a gateway that is told to stop lets open answers go on."""
    api_version: str = Field(default="0.12.6", pattern=r"^\d+\.\d+\.\d+$")
    """The Ollama API level that `/api/version` reports; some clients refuse older ones."""
    subject_prefix: str = "rkllama"
    """First part of every subject on the bus."""

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("RKLLAMA_GATEWAY_TLS_CERT_FILE and _TLS_KEY_FILE go together")
        return self

    def certificate(self) -> Certificate | None:
        """What HTTPS is served with; None: HTTP is."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return Certificate(cert=self.tls_cert_file.expanduser(), key=self.tls_key_file.expanduser())

    def rate(self) -> Rate | None:
        """How often each asker may ask."""
        if not self.rate_per_minute:
            return None
        return Rate(per_minute=self.rate_per_minute, burst=self.rate_burst)

    def wire_limits(self) -> WireLimits:
        """The bounds on connections."""
        return WireLimits(
            max_head_bytes=self.max_head_bytes,
            max_head_fields=self.max_head_fields,
            head_timeout_s=self.head_timeout_s,
            slow_client_s=self.slow_client_s,
            max_connections=self.max_connections,
            max_connections_per_address=self.max_connections_per_address,
        )
