"""What the store counts for Prometheus."""

from __future__ import annotations

import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from rkllama_store.library import Library


class Holdings:
    """How much is in the store, as of the last change, and on its disk."""

    def __init__(self, library: Library, root: Path, registry: CollectorRegistry) -> None:
        self._library = library
        self._root = root
        self._models = Gauge("rkllama_store_models", "Names in the store.", registry=registry)
        self._bytes = Gauge("rkllama_store_blob_bytes", "Bytes of all blobs.", registry=registry)
        self._disk = Gauge(
            "rkllama_store_disk_bytes", "Size of the store's disk.", registry=registry
        )
        self._free = Gauge(
            "rkllama_store_disk_free_bytes",
            "What is free of it for the store.",
            registry=registry,
        )

    def count(self) -> None:
        """Look anew; this reads the disk."""
        models, size = self._library.size()
        self._models.set(models)
        self._bytes.set(size)

    def measure_disk(self) -> None:
        """How full the disk is."""
        usage = shutil.disk_usage(self._root)
        self._disk.set(usage.total)
        self._free.set(usage.free)
