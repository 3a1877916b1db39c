"""Who stays in a component: a greedy walk from the most to the least preferred, by exact Jaccard."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.settings import DedupSettings
from curation.dedup.verify import Candidates, fewest_common, jaccard_with, preference_order, verify
from curation.kernels.shingles import fill_table, table_slots


def jaccard(left: frozenset[int], right: frozenset[int]) -> Fraction:
    return Fraction(len(left & right), len(left | right)) if left | right else Fraction(0)


def jaccard_of_sets(left: Iterable[int], right: Iterable[int], threshold: float) -> float:
    """Through the code that ships; the right set in descending order, since no order is asked for."""
    values, other = np.array(sorted(left), np.uint64), np.array(sorted(right, reverse=True), np.uint64)
    table = np.empty(table_slots(len(values)), np.uint64)
    count = fill_table(values, table, values.copy())
    return float(jaccard_with(table, count, other, threshold))


@dataclass(frozen=True)
class Doc:
    """A candidate: its shingles, and what decides its preference."""

    shingles: frozenset[int]
    length: int
    content: int
    id_hash: int
    component: int = 0
    fixed: bool = False


def settle(docs: list[Doc], settings: DedupSettings, bands: np.ndarray | None = None) -> dict[int, tuple[int, float]]:
    """id_hash of every removed document → (id_hash of what it duplicates, Jaccard), through the code that ships."""
    order = preference_order(
        np.array([d.component for d in docs], np.int64),
        np.array([d.fixed for d in docs], bool),
        np.array([d.length for d in docs], np.int64),
        np.array([d.content for d in docs], np.uint64),
        np.array([d.id_hash for d in docs], np.uint64),
        settings.keep,
    )
    ordered = [docs[i] for i in order.tolist()]
    component = np.array([d.component for d in ordered])
    starts = np.flatnonzero(np.concatenate(([True], component[1:] != component[:-1], [True])))
    sets = [np.array(sorted(d.shingles), np.uint64) for d in ordered]
    bounds = np.cumsum([0, *(len(s) for s in sets)])
    keys = np.zeros((len(docs), 1), np.uint64) if bands is None else np.ascontiguousarray(bands[order])
    found = verify(
        Candidates(
            starts, np.array([d.fixed for d in ordered], bool), keys, np.concatenate(sets), bounds[:-1], bounds[1:]
        ),
        settings,
    )
    return {
        ordered[i].id_hash: (ordered[leader].id_hash, float(found.jaccards[i]))
        for i, leader in enumerate(found.kept_as.tolist())
        if leader != i
    }


def oracle(docs: list[Doc], settings: DedupSettings) -> dict[int, tuple[int, float]]:
    """The rule of the module's first lines, word by word, in exact fractions."""
    sign = -1 if settings.keep == "longest" else 1
    removed: dict[int, tuple[int, float]] = {}
    for component in sorted({d.component for d in docs}):
        members = [d for d in docs if d.component == component]
        members.sort(key=lambda d: (not d.fixed, sign * d.length, d.content, d.id_hash))
        stay: list[Doc] = []
        for doc in members:
            like = [(float(jaccard(doc.shingles, other.shingles)), -i) for i, other in enumerate(stay)]
            best, position = max(like, default=(0.0, 0))
            if not doc.fixed and like and best >= settings.threshold:
                removed[doc.id_hash] = (stay[-position].id_hash, best)
            else:
                stay.append(doc)
    return removed


@st.composite
def documents(draw: st.DrawFn, most: int = 10) -> list[Doc]:
    """Small sets over few shingles, so that every similarity from 0 to 1 comes up."""
    count = draw(st.integers(1, most))
    sets = st.frozensets(st.integers(0, 9), max_size=9)
    return [
        Doc(
            draw(sets),
            draw(st.integers(0, 3)),
            draw(st.integers(0, 5)),
            i,
            draw(st.integers(0, 2)),
            draw(st.booleans()),
        )
        for i in range(count)
    ]


THRESHOLDS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.55, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0])


@given(documents(), THRESHOLDS, st.sampled_from(["longest", "shortest"]))
def test_what_stays_is_what_the_rule_says(docs: list[Doc], threshold: float, keep: str) -> None:
    settings = DedupSettings(threshold=threshold, keep=keep)

    assert settle(docs, settings) == oracle(docs, settings)


@given(documents(), THRESHOLDS, st.randoms())
def test_the_order_in_which_members_arrive_leaves_no_trace(
    docs: list[Doc], threshold: float, shuffler: random.Random
) -> None:
    settings = DedupSettings(threshold=threshold)
    shuffled = list(docs)
    shuffler.shuffle(shuffled)

    assert settle(shuffled, settings) == settle(docs, settings)


@given(documents(), THRESHOLDS)
def test_components_settled_apart_are_settled_alike(docs: list[Doc], threshold: float) -> None:
    settings = DedupSettings(threshold=threshold)
    apart: dict[int, tuple[int, float]] = {}
    for component in {d.component for d in docs}:
        apart |= settle([d for d in docs if d.component == component], settings)

    assert apart == settle(docs, settings)


@given(documents(), THRESHOLDS)
def test_every_removed_document_reaches_the_threshold_with_one_that_stays(docs: list[Doc], threshold: float) -> None:
    by_id = {d.id_hash: d for d in docs}
    removed = settle(docs, DedupSettings(threshold=threshold))

    for gone, (stays, similarity) in removed.items():
        assert stays not in removed
        assert not by_id[gone].fixed
        assert by_id[gone].component == by_id[stays].component
        assert similarity == float(jaccard(by_id[gone].shingles, by_id[stays].shingles)) >= threshold


@given(documents(), THRESHOLDS)
def test_what_stays_of_this_run_is_unlike_everything_else_that_stays(docs: list[Doc], threshold: float) -> None:
    removed = settle(docs, DedupSettings(threshold=threshold))
    stay = [d for d in docs if d.id_hash not in removed]

    for a in stay:
        for b in stay:
            if a.component == b.component and a.id_hash < b.id_hash and not (a.fixed and b.fixed):
                assert float(jaccard(a.shingles, b.shingles)) < threshold


@given(documents(14), THRESHOLDS)
def test_a_giant_component_whose_members_all_share_a_band_is_settled_by_the_same_rule(
    docs: list[Doc], threshold: float
) -> None:
    docs = [Doc(d.shingles, d.length, d.content, d.id_hash, 0, d.fixed) for d in docs]
    settings = DedupSettings(threshold=threshold, all_pairs_up_to=2)

    assert settle(docs, settings, np.ones((len(docs), 3), np.uint64)) == oracle(docs, settings)


def test_in_a_giant_component_only_documents_that_share_a_band_are_compared() -> None:
    docs = [Doc(frozenset(range(10)), 10 - i, i, i) for i in range(4)]
    bands = np.array([[1, 2], [3, 4], [5, 2], [3, 6]], np.uint64)

    assert settle(docs, DedupSettings(all_pairs_up_to=2), bands) == {2: (0, 1.0), 3: (1, 1.0)}
    assert settle(docs, DedupSettings(all_pairs_up_to=4), bands) == {1: (0, 1.0), 2: (0, 1.0), 3: (0, 1.0)}


def test_a_giant_component_is_capped_and_says_how_often() -> None:
    size, limit = 40, 5
    sets = [np.arange(i * 10, i * 10 + 10, dtype=np.uint64) for i in range(size)]
    bounds = np.arange(0, size * 10 + 1, 10)
    found = verify(
        Candidates(
            np.array([0, size]),
            np.zeros(size, bool),
            np.ones((size, 1), np.uint64),
            np.concatenate(sets),
            bounds[:-1],
            bounds[1:],
        ),
        DedupSettings(all_pairs_up_to=2, max_comparisons=limit),
    )

    assert found.kept_as.tolist() == list(range(size))
    assert found.comparisons == sum(min(i, limit) for i in range(size))
    assert found.capped == size - limit - 1


def test_a_chain_removes_only_what_resembles_a_document_that_stays() -> None:
    """a ~ b ~ c with a and c unlike: c stays, although all three are one component."""
    a, b, c = (frozenset(range(start, start + 20)) for start in (0, 2, 4))
    docs = [Doc(a, 3, 0, 0), Doc(b, 2, 0, 1), Doc(c, 1, 0, 2)]

    assert settle(docs, DedupSettings(threshold=0.8)) == {1: (0, 18 / 22)}
    assert float(jaccard(a, c)) < 0.8 <= float(jaccard(b, c))


def test_a_duplicate_names_the_closest_document_and_among_equals_the_preferred_one() -> None:
    near, nearer = frozenset(range(12)), frozenset(range(4, 16))
    docs = [Doc(near, 9, 0, 0), Doc(nearer, 8, 0, 1), Doc(frozenset(range(4, 15)), 7, 0, 2)]

    assert settle(docs, DedupSettings(threshold=0.6)) == {2: (1, 11 / 12)}
    docs = [Doc(near, 9, 0, 0), Doc(nearer, 8, 0, 1), Doc(frozenset(range(4, 12)), 7, 0, 2)]
    assert settle(docs, DedupSettings(threshold=0.6)) == {2: (0, 8 / 12)}


@pytest.mark.parametrize(("keep", "removed"), [("longest", {1: (0, 1.0)}), ("shortest", {0: (1, 1.0)})])
def test_the_longest_or_the_shortest_copy_stays(keep: str, removed: dict[int, tuple[int, float]]) -> None:
    same = frozenset({1, 2, 3})

    assert settle([Doc(same, 9, 5, 0), Doc(same, 8, 1, 1)], DedupSettings(keep=keep)) == removed


def test_ties_fall_to_the_smaller_content_hash_then_to_the_smaller_hash_of_the_id() -> None:
    same = frozenset({1, 2, 3})

    assert settle([Doc(same, 9, 5, 0), Doc(same, 9, 1, 1)], DedupSettings()) == {0: (1, 1.0)}
    assert settle([Doc(same, 9, 5, 1), Doc(same, 9, 5, 0)], DedupSettings()) == {1: (0, 1.0)}


def test_a_document_of_an_earlier_run_stays_whatever_it_resembles() -> None:
    same = frozenset({1, 2, 3})
    docs = [Doc(same, 9, 0, 0), Doc(same, 1, 9, 1, fixed=True), Doc(same, 2, 8, 2, fixed=True)]

    assert settle(docs, DedupSettings()) == {0: (2, 1.0)}


def test_texts_without_a_word_are_never_near_duplicates() -> None:
    assert settle([Doc(frozenset(), 3, 0, 0), Doc(frozenset(), 2, 0, 1)], DedupSettings(threshold=0.1)) == {}


def test_a_pair_exactly_at_the_threshold_is_a_duplicate_whatever_its_size() -> None:
    """0.55 * 100 is 55.000000000000007: the shortcut over the sizes used to drop pairs that sit on the threshold."""
    for percent in range(1, 101):
        for size in (20, 25, 50, 100, 200):
            if percent * size % 100 == 0:
                whole = np.arange(size, dtype=np.uint64)
                part = whole[: percent * size // 100]
                assert jaccard_of_sets(part, whole, percent / 100) == percent / 100
                assert jaccard_of_sets(whole, part, percent / 100) == percent / 100


@given(st.frozensets(st.integers(0, 2**64 - 1)), st.frozensets(st.integers(0, 2**64 - 1)), st.floats(0, 1))
def test_jaccard_is_exact_or_nothing_when_it_is_below_the_threshold(
    left: frozenset[int], right: frozenset[int], threshold: float
) -> None:
    truth = float(jaccard(left, right))
    assert jaccard_of_sets(left, right, threshold) == (truth if truth >= threshold else 0.0)
    assert jaccard_of_sets(left, right, 0.0) == truth


@given(st.integers(1, 300), st.integers(1, 300), THRESHOLDS | st.floats(0, 1))
def test_the_fewest_common_elements_are_the_first_whose_quotient_reaches_the_threshold(
    n: int, m: int, threshold: float
) -> None:
    enough = [common for common in range(min(n, m) + 1) if common / (n + m - common) >= threshold]

    assert fewest_common(n, m, threshold) == (enough[0] if enough else min(n, m) + 1)


def test_members_of_one_component_lie_together_from_the_most_to_the_least_preferred() -> None:
    rng = np.random.default_rng(1)
    size = 500
    columns = [rng.integers(0, high, size) for high in (20, 2, 4, 4, 4)]
    component, fixed, length, content, id_hash = columns
    order = preference_order(
        component, fixed.astype(bool), length, content.astype(np.uint64), id_hash.astype(np.uint64), "longest"
    )
    rows = [(component[i], 1 - fixed[i], -length[i], content[i], id_hash[i]) for i in order.tolist()]

    assert all(tuple(a) <= tuple(b) for a, b in pairwise(rows))
