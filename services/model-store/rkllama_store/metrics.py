"""What the store counts for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from rkllama_store.library import Library


class Holdings:
    """How much is in the store, as of the last change."""

    def __init__(self, library: Library, registry: CollectorRegistry) -> None:
        self._library = library
        self._models = Gauge("rkllama_store_models", "Names in the store.", registry=registry)
        self._bytes = Gauge("rkllama_store_blob_bytes", "Bytes of all blobs.", registry=registry)

    def count(self) -> None:
        """Look anew; this reads the disk."""
        models, size = self._library.size()
        self._models.set(models)
        self._bytes.set(size)
