"""Which blobs nobody needs any more: a pure decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from rkllama_protocol.names import Digest

from rkllama_store.blobs import EXPECTED_S


def referenced(manifests: Iterable[AbstractSet[Digest]]) -> set[Digest]:
    """Every digest that some manifest needs."""
    return set().union(*manifests)


def garbage(
    ages_s: Mapping[Digest, float],
    *,
    needed: AbstractSet[Digest],
    dropped: AbstractSet[Digest],
) -> set[Digest]:
    """The blobs to remove, of those that are there.

    Args:
        ages_s: Every blob, with the seconds since it was written.
        needed: What some manifest needs.
        dropped: What the manifest needed that has just gone: its blobs go at once. Any other blob
            without a manifest may be an upload whose create has not come yet, and is left an hour.
    """
    return {
        digest
        for digest, age_s in ages_s.items()
        if digest not in needed and (digest in dropped or age_s > EXPECTED_S)
    }
