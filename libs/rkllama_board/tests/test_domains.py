"""Ranges of IOMMU domains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rkllama_board.domains import DOMAIN_BYTES, DOMAINS, allocate, domains_needed

GIB = 2**30
SIZES = st.integers(min_value=0, max_value=80 * GIB)
FIRST = st.sampled_from([0, 1])


@pytest.mark.parametrize(
    ("size_bytes", "domains"),
    [
        (0, 1),
        (1, 1),
        (DOMAIN_BYTES, 1),
        (DOMAIN_BYTES + 1, 2),
        (8 * GIB, 3),
        (3_085_697_024, 1),
        (4_022_272_000, 2),
    ],
)
def test_a_model_takes_as_many_domains_as_it_fills(size_bytes: int, domains: int) -> None:
    assert domains_needed(size_bytes) == domains


def test_two_models_over_four_gib_get_ranges_of_their_own() -> None:
    one = allocate(5 * GIB, first=1, used=[])
    assert one is not None

    other = allocate(5 * GIB, first=1, used=[one])

    assert (one, other) == (range(1, 3), range(3, 5))


@given(first=FIRST, sizes=st.lists(SIZES, max_size=20), data=st.data())
def test_ranges_are_whole_and_apart_and_refused_only_when_nothing_fits(
    first: int, sizes: list[int], data: st.DataObject
) -> None:
    """Models come and go in any order."""
    used: list[range] = []
    for size in sizes:
        leaving = data.draw(st.integers(min_value=-3, max_value=len(used) - 1))
        if leaving >= 0:
            del used[leaving]
        ids = allocate(size, first=first, used=used)
        taken = {number for held in used for number in held}
        free_runs = [
            start
            for start in range(first, DOMAINS)
            if start + domains_needed(size) <= DOMAINS
            and not taken & set(range(start, start + domains_needed(size)))
        ]
        if ids is None:
            assert free_runs == []
        else:
            assert ids.start == free_runs[0]
            assert len(ids) == domains_needed(size)
            used.append(ids)
