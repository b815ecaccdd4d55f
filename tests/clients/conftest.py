"""An emulated board for the clients of others; every test in this folder has the marker `clients`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest
from rkllm_bindings.emulator import ModelScript

from tests.emulated import SPECIAL, create, emulated
from tests.integration.test_openai_sdk import SCRIPT
from tests.integration.test_tools import MARKS, TEMPLATE
from tests.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("clients")


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A board with `able`, which knows tools and thinks, `plain`, which does neither, and `endless`."""
    folder = tmp_path_factory.mktemp("npu")
    with emulated(folder, "abi-1.3.0") as running:
        models(running, folder)
        yield running.url


def models(stack: Stack, folder: Path) -> None:
    with ollama.Client(host=stack.url, trust_env=False) as client:
        create(client, "plain", SCRIPT, folder, special=SPECIAL | MARKS)
        client.create("able", from_="plain", template=TEMPLATE)
        endless = ModelScript(answer_tokens=100_000, decode_tokens_per_s=50)
        create(client, "endless", endless, folder)
