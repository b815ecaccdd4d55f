"""Fixtures shared by every test folder: a real broker, and a store with the real small model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from rkllama_protocol import codec

from tests import minilm
from tests.broker import Broker
from tests.stack import Stack, prepared

# A busy machine is no bug: no example has a time of its own.
hypothesis.settings.register_profile("rkllama", deadline=None)
hypothesis.settings.load_profile("rkllama")


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker that the tests of a run share; each uses a prefix of its own."""
    broker = Broker(tmp_path_factory.mktemp("nats"))
    broker.start()
    yield broker.url
    broker.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that one test may kill and start again."""
    own = Broker(tmp_path)
    own.start()
    yield own
    own.stop()


@pytest.fixture
def prefix() -> str:
    """A subject prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def strict_decoders() -> Iterator[None]:
    """Unknown fields in a message are errors in tests."""
    with codec.strict():
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of a store that has installed the bundled model."""
    folder = tmp_path_factory.mktemp("models")
    with Stack(folder, workers=0):
        pass
    return folder / "models"


@pytest.fixture
def bundled_data(models: Path, tmp_path: Path) -> Path:
    """A data folder with the bundled model, for one test."""
    return prepared(models, tmp_path)


@pytest.fixture(scope="session")
def minilm_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as one GGUF file, 45 MB."""
    path = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2.F16.gguf"
    minilm.convert(path)
    return path
