"""What the gateway can be told from outside. Read once, in `__main__`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One gateway. Each field is the variable `RKLLAMA_GATEWAY_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="RKLLAMA_GATEWAY_", frozen=True)

    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the API, probes and metrics; 0 takes a free one. The address is `RKLLAMA_HOST`."""
    ollama_port: int = Field(default=0, ge=0, le=65535)
    """A second port for the same API, opened if it is free; 0 for none."""
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
    max_body_bytes: int = Field(default=64 * 2**20, gt=0)
    """Most bytes of a request's body, but for blobs; a larger one is refused with 413."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """How long a gateway that is told to stop lets open answers go on."""
    api_version: str = Field(default="0.12.6", pattern=r"^\d+\.\d+\.\d+$")
    """The Ollama API level that `/api/version` reports; some clients refuse older ones."""
    subject_prefix: str = "rkllama"
    """First part of every subject on the bus."""
