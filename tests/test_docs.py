"""`docs/configuration.md` is what the settings classes say, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from rkllama_gateway.settings import Settings as GatewaySettings
from rkllama_service.ollama_variables import STAND_INS
from rkllama_service.settings import Shared
from rkllama_store.settings import HubSettings
from rkllama_store.settings import Settings as StoreSettings
from rkllama_worker.settings import Settings as WorkerSettings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
CLASSES = [Shared, GatewaySettings, WorkerSettings, StoreSettings, HubSettings]


def texts(settings: type[BaseSettings]) -> dict[str, str]:
    """The docstring under each field of a class."""
    tree = ast.parse(inspect.getsource(settings)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr), field.target.id
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def rows() -> dict[str, str]:
    """Variable to text, as the page has it."""
    found = re.findall(
        r"^\| `((?:RKLLAMA|HF)_\w+)` \| (?:.*?) \| (.*?) \|$", PAGE.read_text(), re.M
    )
    return dict(found)


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__module__)
def test_every_variable_is_on_the_page_in_the_classes_own_words(
    settings: type[BaseSettings],
) -> None:
    prefix = settings.model_config.get("env_prefix", "")
    expected = {prefix + name.upper(): text for name, text in texts(settings).items()}

    assert set(texts(settings)) == set(settings.model_fields)
    assert {name: rows().get(name) for name in expected} == expected


def test_ollamas_variables_are_on_the_page_with_ours() -> None:
    found = re.findall(r"^\| `(OLLAMA_\w+)` \| `(RKLLAMA_\w+)` \|$", PAGE.read_text(), re.M)
    known = {
        settings.model_config.get("env_prefix", "") + name.upper()
        for settings in CLASSES
        for name in settings.model_fields
    }

    assert dict(found) == {name: ours for name, (ours, _) in STAND_INS.items()}
    assert set(dict(found).values()) <= known


def test_the_page_has_no_variable_that_nobody_reads() -> None:
    known = {
        settings.model_config.get("env_prefix", "") + name.upper()
        for settings in CLASSES
        for name in settings.model_fields
    }

    assert set(rows()) == known
