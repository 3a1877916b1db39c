"""Large components are settled by the rule of small ones as far as nothing is capped, and say where something was."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup import large_components
from curation.dedup.large_components import BUCKET_LEADERS, LargeComponent, Piece, comparisons_each
from curation.dedup.settings import DedupSettings

Doc = tuple[frozenset[int], tuple[int, ...], bool]  # shingles, bucket in each band, kept by an earlier run
THRESHOLDS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 1.0])


def piece_of(docs: Sequence[Doc]) -> Piece:
    sets = [np.array(sorted(shingles), np.uint64) for shingles, _, _ in docs]
    bounds = np.cumsum([0, *map(len, sets)])
    # A bucket of one band is none of another.
    bands = np.array(
        [[1000 * band + bucket for band, bucket in enumerate(buckets)] for _, buckets, _ in docs], np.uint64
    )
    flat = np.concatenate([np.zeros(0, np.uint64), *sets])
    return Piece(np.array([fixed for _, _, fixed in docs], bool), bands, flat, bounds[:-1], bounds[1:])


def settle(
    docs: Sequence[Doc], settings: DedupSettings, cuts: Sequence[int] = (), leader_bytes: int = 1 << 20
) -> tuple[dict[int, tuple[int, float]], LargeComponent]:
    """Removed document → (what it duplicates, Jaccard), the members walked in pieces cut at `cuts`."""
    component = LargeComponent(len(docs), settings, leader_bytes)
    removed = {}
    bounds = [0, *sorted({min(cut, len(docs)) for cut in cuts}), len(docs)]
    for begin, end in pairwise(bounds):
        if end > begin:
            kept_as, jaccards = component.walk(piece_of(docs[begin:end]))
            for i, (leader, similarity) in enumerate(zip(kept_as.tolist(), jaccards.tolist(), strict=True), begin):
                if leader != i:
                    removed[i] = (leader, similarity)
    return removed, component


def oracle(docs: Sequence[Doc], threshold: float) -> dict[int, tuple[int, float]]:
    """Everybody with everybody kept who shares a bucket, in exact fractions."""
    kept: list[int] = []
    removed = {}
    for i, (shingles, buckets, fixed) in enumerate(docs):
        like = []
        for k in kept:
            other, theirs, _ = docs[k]
            if any(a == b for a, b in zip(buckets, theirs, strict=True)) and shingles | other:
                like.append((float(Fraction(len(shingles & other), len(shingles | other))), -k))
        best, nearest = max(like, default=(0.0, 0))
        if not fixed and best >= threshold:
            removed[i] = (-nearest, best)
        else:
            kept.append(i)
    return removed


@st.composite
def documents(draw: st.DrawFn) -> list[Doc]:
    sets = st.frozensets(st.integers(0, 9), max_size=9)
    buckets = st.tuples(*(st.integers(0, 3) for _ in range(3)))
    docs = draw(st.lists(st.tuples(sets, buckets, st.booleans()), min_size=1, max_size=14))
    return sorted(docs, key=lambda doc: not doc[2])  # what an earlier run kept comes first


@given(documents(), THRESHOLDS, st.lists(st.integers(0, 14), max_size=4))
def test_without_a_cap_the_rule_is_that_of_comparing_all_who_share_a_bucket_whatever_the_pieces(
    docs: list[Doc], threshold: float, cuts: list[int]
) -> None:
    removed, component = settle(docs, DedupSettings(threshold=threshold), cuts)

    assert removed == oracle(docs, threshold)
    assert component.capped == 0


@given(documents(), THRESHOLDS, st.lists(st.integers(0, 14), max_size=4), st.integers(1, 3), st.integers(0, 200))
def test_a_cap_never_removes_what_resembles_nothing_that_stays(
    docs: list[Doc], threshold: float, cuts: list[int], most: int, leader_bytes: int
) -> None:
    settings = DedupSettings(threshold=threshold, max_comparisons=most)
    removed, component = settle(docs, settings, cuts, leader_bytes)
    whole, _ = settle(docs, settings, [], leader_bytes)

    assert removed == whole
    for gone, (stays, similarity) in removed.items():
        assert stays not in removed
        assert not docs[gone][2]
        left, right = docs[gone][0], docs[stays][0]
        assert similarity == len(left & right) / len(left | right) >= threshold
    if component.capped == 0:
        assert removed == oracle(docs, threshold)


def apart(count: int) -> list[Doc]:
    """Documents that share a bucket and nothing else."""
    return [(frozenset(range(10 * i, 10 * i + 10)), (0, i), False) for i in range(count)]


def test_a_member_is_compared_first_with_those_it_shares_most_buckets_with() -> None:
    settings = DedupSettings(max_comparisons=1)
    docs: list[Doc] = [
        (frozenset(range(10)), (0, 0, 0), False),
        (frozenset(range(20, 30)), (1, 1, 1), False),
        (frozenset(range(9)), (0, 1, 1), False),  # resembles the first, shares more buckets with the second
        (frozenset(range(21, 30)), (1, 1, 2), False),
    ]

    removed, component = settle(docs, settings)

    assert removed == {3: (1, 0.9)}
    assert (component.comparisons, component.capped) == (2, 2)


def test_a_bucket_names_its_first_documents_and_whoever_asks_more_of_it_counts_as_capped() -> None:
    docs = apart(BUCKET_LEADERS + 2)
    copy_of_the_last: Doc = (docs[-1][0], (0, 999), False)

    removed, component = settle([*docs, copy_of_the_last], DedupSettings())

    assert removed == {}, "the last is no longer named in the bucket they share"
    # The last but one finds the bucket full and all its documents; it is the first that the bucket cannot name.
    assert component.capped == 2
    assert settle([*docs[1:-1], copy_of_the_last], DedupSettings())[1].capped == 0


def test_documents_beyond_what_is_held_stay_and_everybody_after_them_counts_as_capped() -> None:
    docs = apart(6)
    removed, component = settle([*docs, docs[0], docs[5]], DedupSettings(), leader_bytes=4 * 10 * 8)

    assert removed == {6: (0, 1.0)}, "a copy of a held document is found, one of the others is not"
    assert component.capped == 3  # the sixth, and both copies


def test_two_documents_that_share_most_buckets_count_one_comparison() -> None:
    removed, component = settle(
        [(frozenset({1}), (0, 0, 0), False), (frozenset({1}), (0, 0, 0), False)], DedupSettings()
    )

    assert (removed, component.comparisons) == ({1: (0, 1.0)}, 1)


@pytest.mark.parametrize(("members", "most"), [(65, 256), (1024, 256), (8192, 32), (32_768, 8), (10**9, 8)])
def test_the_more_members_the_fewer_comparisons_each(members: int, most: int) -> None:
    assert comparisons_each(members, DedupSettings()) == most
    assert comparisons_each(members, DedupSettings(max_comparisons=4)) == 4


def test_the_work_grows_with_the_members_and_not_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each used to be held against every document kept before it, if only to see that they share no bucket."""
    monkeypatch.setattr(large_components, "COMPONENT_COMPARISONS", 0)
    for size in (2000, 20_000):
        _, component = settle(apart(size), DedupSettings(), range(0, size, 500))

        assert component.comparisons <= large_components.LEAST_COMPARISONS * size
