"""Everything in the worker's image imported, its own and what it depends on; image.sh runs this inside of it."""

from __future__ import annotations

import ctypes
import importlib
import platform
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackagePath, distribution, distributions, packages_distributions

OURS = "rkllama"
MUST_BE_THERE = {
    "rkllama_worker.engine.__main__",
    "rkllama_worker.runtimes",
    "rkllm_bindings",
    "numpy",
    "numpy.random._generator",
    "tokenizers.tokenizers",
    "xllamacpp.xllamacpp",
    "llguidance._lib",
    "jsonschema_rs.jsonschema_rs",
}
"""Some of what has to be among it; were the lists below wrong, nothing would fail by itself."""


def modules(files: list[PackagePath], *suffixes: str) -> Iterator[str]:
    """The modules that files of a wheel are; a library or a script beside them is none."""
    for path in files:
        suffix = next((end for end in suffixes if path.name.endswith(end)), None)
        parts = [*path.parts[:-1], path.name.removesuffix(suffix or "")]
        if suffix is not None and all(part.isidentifier() for part in parts):
            yield ".".join(parts).removesuffix(".__init__")


def main() -> None:
    """Import everything, and print how much that was; what does not import ends it."""
    installed = [found.files or [] for found in distributions()]
    wanted = {
        "modules of ours": set(modules(distribution(OURS).files or [], ".py")),
        "packages of others": {
            name
            for name, owners in packages_distributions().items()
            if name.isidentifier() and OURS not in owners
        },
        "modules in machine code": {
            name for files in installed for name in modules(files, *EXTENSION_SUFFIXES)
        },
    }
    missing = MUST_BE_THERE.difference(*wanted.values())
    if missing:
        sys.exit(f"not in this image: {', '.join(sorted(missing))}")
    for kind, names in wanted.items():
        for name in sorted(names):
            importlib.import_module(name)
        sys.stdout.write(f"{platform.machine()}: {len(names)} {kind} import\n")
    ctypes.CDLL("libgomp.so.1")  # Both runtimes, the vendor's too, are built with OpenMP.


if __name__ == "__main__":
    main()
