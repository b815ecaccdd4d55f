"""What the model store can be told from outside. Read once, in `__main__`."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One model store. Each field is the variable `RKLLAMA_STORE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="RKLLAMA_STORE_", frozen=True)

    store_id: str = Field(default="store", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Stands in the subject of its beats."""
    http_host: str = "127.0.0.1"
    """Address that blobs, probes and metrics are served on."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """Port of the same; 0 takes a free one."""
    advertise_url: str = ""
    """Where gateways and workers reach that port; empty: the address that is listened on."""
    bundled: bool = True
    """Install the small bundled model when the store is started for the first time."""
    subject_prefix: str = Field(default="rkllama", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    """First part of every subject on the bus."""


class HubSettings(BaseSettings):
    """Where models are pulled from. Each field is the variable `HF_<FIELD>`, as in `huggingface_hub`."""

    model_config = SettingsConfigDict(env_prefix="HF_", frozen=True)

    endpoint: str = "https://huggingface.co"
    """The hub, or a mirror of it."""
    token: SecretStr = SecretStr("")
    """Sent to that address and to no other; needed for private and gated repositories."""
    hub_offline: bool = False
    """Pull nothing from a hub."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        value = value.strip().rstrip("/") or "https://huggingface.co"
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("not an address that begins with https:// or http://")
        return value
