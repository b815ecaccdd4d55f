"""Variables are read once; a misspelt one stops the process by name."""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from rkllama_service.process import SetupError
from rkllama_service.settings import read, read_shared, unknown_variables


class Settings(BaseSettings):
    """A service's settings."""

    model_config = SettingsConfigDict(env_prefix="RKLLAMA_WORKER_", frozen=True)

    speed: int = Field(default=1, gt=0)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("RKLLAMA_WORKER_SPEED", True),
        ("RKLLAMA_DATA", True),
        ("RKLLAMA_RKLLM_LIBRARY", True),
        ("RKLLAMA_GATEWAY_ANYTHING", True),
        ("PATH", True),
        ("RKLLAMA_WORKER_SPED", False),
        ("RKLLAMA_DATTA", False),
        ("RKLLAMA_", False),
    ],
)
def test_only_variables_that_somebody_reads_are_known(name: str, *, known: bool) -> None:
    assert unknown_variables({name: "1"}, Settings) == ([] if known else [name])


def test_a_misspelt_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RKLLAMA_WORKER_SPED", "3")

    with pytest.raises(SetupError, match="RKLLAMA_WORKER_SPED"):
        read(Settings)


def test_a_value_that_does_not_fit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RKLLAMA_WORKER_SPEED", "0")

    with pytest.raises(SetupError, match="RKLLAMA_WORKER_SPEED"):
        read(Settings)


def test_values_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RKLLAMA_WORKER_SPEED", "3")
    monkeypatch.setenv("RKLLAMA_DATA", "~/models")
    settings, shared = read(Settings)

    assert settings.speed == 3
    assert shared.data_dir.is_absolute()
    assert "~" not in str(shared.data_dir)


@pytest.mark.parametrize(
    ("ollama", "ours", "debug"),
    [
        (None, None, False),
        ("1", None, True),
        ("2", None, True),
        (" true ", None, True),
        ("whatever", None, True),
        ("", None, False),
        ("0", None, False),
        ('"false"', None, False),
        ("1", "false", False),
        ("0", "true", True),
    ],
)
def test_ollamas_debug_counts_where_ours_is_not_set(
    monkeypatch: pytest.MonkeyPatch, ollama: str | None, ours: str | None, *, debug: bool
) -> None:
    """Contract 5: any text that is neither on nor off is on."""
    for name, value in (("OLLAMA_DEBUG", ollama), ("RKLLAMA_DEBUG", ours)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    assert read_shared().debug is debug
