"""Ollama's variables stand in for ours (contract 5)."""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from rkllama_service.ollama_variables import FOREVER_S, NEVER_S, STAND_INS, seconds, stand_ins
from rkllama_service.settings import read

WORKER = "RKLLAMA_WORKER_"
GATEWAY = "RKLLAMA_GATEWAY_"


class Settings(BaseSettings):
    """A service's settings."""

    model_config = SettingsConfigDict(env_prefix=WORKER, frozen=True)

    keep_alive_s: float = 300.0
    load_timeout_s: float = Field(default=300.0, gt=0)
    max_models: int = 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("-1m", -60.0),
        ("250ms", 0.25),
        ("90", 90.0),
        ("-1", -1.0),
        ("0", 0.0),
        ("1d", None),
        ("5 m", None),
        ("m", None),
        ("", None),
        ("1.5", None),
    ],
)
def test_durations_are_gos_or_whole_seconds(text: str, value: float | None) -> None:
    assert seconds(text) == pytest.approx(value) if value is not None else seconds(text) is None


@pytest.mark.parametrize(
    ("name", "text", "prefix", "found"),
    [
        ("OLLAMA_KEEP_ALIVE", ' "10m" ', WORKER, {"keep_alive_s": 600.0}),
        ("OLLAMA_KEEP_ALIVE", "-1h", WORKER, {"keep_alive_s": FOREVER_S}),
        ("OLLAMA_KEEP_ALIVE", "0", WORKER, {"keep_alive_s": 0.0}),
        ("OLLAMA_KEEP_ALIVE", "1d", WORKER, {}),
        ("OLLAMA_KEEP_ALIVE", "10m", GATEWAY, {}),
        ("OLLAMA_LOAD_TIMEOUT", "0", WORKER, {"load_timeout_s": NEVER_S}),
        ("OLLAMA_LOAD_TIMEOUT", "30s", WORKER, {"load_timeout_s": 30.0}),
        ("OLLAMA_MAX_LOADED_MODELS", "2", WORKER, {"max_models": 2}),
        ("OLLAMA_MAX_LOADED_MODELS", "0", WORKER, {"max_models": 0}),
        ("OLLAMA_MAX_LOADED_MODELS", "-2", WORKER, {}),
        ("OLLAMA_MAX_QUEUE", "7", GATEWAY, {"max_waiting": 7}),
        ("OLLAMA_MAX_QUEUE", "0", GATEWAY, {}),
        ("OLLAMA_CONTEXT_LENGTH", "8192", GATEWAY, {"context_length": 8192}),
        ("OLLAMA_CONTEXT_LENGTH", "8k", GATEWAY, {}),
        ("OLLAMA_ORIGINS", "'https://a.example'", GATEWAY, {"origins": "https://a.example"}),
        ("OLLAMA_ORIGINS", "", GATEWAY, {}),
    ],
)
def test_a_variable_stands_in_for_ours(
    name: str, text: str, prefix: str, found: dict[str, object]
) -> None:
    ours = STAND_INS[name][0]
    variables = [variable for variable, _ in STAND_INS.values() if variable.startswith(prefix)]
    fields = {variable.removeprefix(prefix).lower() for variable in variables}

    assert stand_ins({name: text}, prefix, fields) == found
    assert stand_ins({name: text}, prefix, {"other"}) == {}
    assert stand_ins({name: text, ours: "x"}, prefix, fields) == {}


def test_ours_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_KEEP_ALIVE", "1m")
    monkeypatch.setenv("OLLAMA_MAX_LOADED_MODELS", "3")
    monkeypatch.setenv("RKLLAMA_WORKER_KEEP_ALIVE_S", "5")
    settings, _ = read(Settings)

    assert (settings.keep_alive_s, settings.max_models) == (5.0, 3)
