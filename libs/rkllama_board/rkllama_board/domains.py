"""Which IOMMU domains a model gets.

The NPU has 16 domains with 4 GiB of addresses each, one set per device and shared by all processes
(rknpu driver 0.9.8). A model whose blocks do not fit its domain makes `rkllm_init` fail, and two models in
one domain share its 4 GiB. The allocations seen suggest a cap near 3.75 GiB a domain and a spill into the
following ids, so each model gets a range of consecutive ids of its own. That is an inference.
"""

from __future__ import annotations

from collections.abc import Iterable

DOMAINS = 16
DOMAIN_BYTES = int(3.7 * 2**30)
"""What is counted on per domain, below its 4 GiB."""


def domains_needed(size_bytes: int) -> int:
    """How many domains weights of this size take; at least one."""
    return max(1, -(-size_bytes // DOMAIN_BYTES))


def allocate(size_bytes: int, *, first: int, used: Iterable[range]) -> range | None:
    """The lowest free run of consecutive domain ids, from `first` to 15, that holds `size_bytes`.

    Args:
        size_bytes: Size of the weights.
        first: First id a language model may have (`SocFacts.first_domain`).
        used: Ranges that loaded models hold.

    Returns:
        The ids; `.start` is the runtime's `base_domain_id`. None if no run is long enough.
    """
    need = domains_needed(size_bytes)
    taken = {number for ids in used for number in ids}
    for start in range(first, DOMAINS - need + 1):
        ids = range(start, start + need)
        if taken.isdisjoint(ids):
            return ids
    return None
