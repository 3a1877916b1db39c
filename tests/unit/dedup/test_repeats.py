"""Nothing that stands twice is missed, and little else is named."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.candidates import bucket_edges
from curation.dedup.repeats import maybe_repeated

HASHES = st.lists(st.sampled_from([0, 1, 2**20, 2**40, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), max_size=60)


@given(HASHES)
def test_every_hash_that_stands_twice_is_named_at_all_its_places_in_order(hashes: list[int]) -> None:
    named = maybe_repeated(np.array(hashes, np.uint64)).tolist()

    count = Counter(hashes)
    assert named == sorted(set(named))
    assert {i for i, h in enumerate(hashes) if count[h] > 1} <= set(named)


@given(HASHES)
def test_the_edges_of_the_named_are_the_edges_of_all(hashes: list[int]) -> None:
    buckets, keys = np.array(hashes, np.uint64), np.arange(len(hashes), dtype=np.uint64)
    named = maybe_repeated(buckets)

    def edges(at: np.ndarray) -> set[tuple[int, int]]:
        left, right = bucket_edges(buckets[at], keys[at])
        return set(zip(left.tolist(), right.tolist(), strict=True))

    assert edges(named) == edges(np.arange(len(hashes)))


def test_of_hashes_that_stand_once_at_most_one_in_eight_is_named() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    for cut in (hashes, hashes << np.uint64(12), (hashes >> np.uint64(14)) | np.uint64(3 << 62)):
        assert len(maybe_repeated(cut)) < 100_000 / 8
