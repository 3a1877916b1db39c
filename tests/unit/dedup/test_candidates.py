"""Buckets to components, whatever the order in which their rows arrive."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.candidates import bucket_edges, components, row_keys, row_of, shard_of

U64S = st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 40)), max_size=60, unique=True)


def edges_of(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return bucket_edges(
        np.array([bucket for bucket, _ in rows], np.uint64), np.array([key for _, key in rows], np.uint64)
    )


def brute_force(edges: set[tuple[int, int]]) -> set[frozenset[int]]:
    """Connected components by search, without a union-find."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    found = set()
    seen: set[int] = set()
    for start in neighbours:
        if start in seen:
            continue
        reached, front = {start}, [start]
        while front:
            for other in neighbours[front.pop()] - reached:
                reached.add(other)
                front.append(other)
        seen |= reached
        found.add(frozenset(reached))
    return found


def grouped(keys: np.ndarray, parents: np.ndarray) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = defaultdict(set)
    for key, parent in zip(keys.tolist(), parents.tolist(), strict=True):
        groups[int(keys[parent])].add(key)
    return {frozenset(group) for group in groups.values()}


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=5))
def test_a_row_key_names_its_shard_and_its_row(shard: int, rows: list[int]) -> None:
    keys = row_keys(shard, np.array(rows, np.int64))

    assert shard_of(keys).tolist() == [shard] * len(rows)
    assert row_of(keys).tolist() == rows


def test_row_keys_sort_by_shard_and_then_by_row() -> None:
    keys = np.concatenate([row_keys(s, np.arange(3)) for s in (0, 1, 1 << 31)])

    assert keys.tolist() == sorted(keys.tolist())
    assert len(set(keys.tolist())) == 9


@given(ROWS)
def test_each_bucket_is_a_star_around_its_smallest_key(rows: list[tuple[int, int]]) -> None:
    buckets: dict[int, list[int]] = defaultdict(list)
    for bucket, key in rows:
        buckets[bucket].append(key)
    expected = sorted((key, min(keys)) for keys in buckets.values() for key in keys if key != min(keys))

    left, right = edges_of(rows)

    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == expected


@given(ROWS, st.randoms())
def test_the_order_of_rows_changes_no_edge(rows: list[tuple[int, int]], shuffler: random.Random) -> None:
    shuffled = list(rows)
    shuffler.shuffle(shuffled)

    def found(given_rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        left, right = edges_of(given_rows)
        return sorted(zip(left.tolist(), right.tolist(), strict=True))

    assert found(shuffled) == found(rows)


def test_a_document_alone_in_its_bucket_has_no_edge() -> None:
    for rows in ([], [(1, 1)], [(1, 1), (2, 2), (3, 1)]):
        left, right = edges_of(rows)
        assert (left.tolist(), right.tolist()) == ([], [])


def test_a_document_twice_in_one_bucket_is_not_joined_with_itself() -> None:
    left, right = edges_of([(1, 5), (1, 5), (1, 9)])

    assert (left.tolist(), right.tolist()) == ([9], [5])


@given(st.lists(st.tuples(U64S, U64S), max_size=40), st.randoms())
def test_components_are_those_of_a_search_whatever_the_order_of_the_edges(
    edges: list[tuple[int, int]], shuffler: random.Random
) -> None:
    shuffled = [(b, a) if shuffler.random() < 0.5 else (a, b) for a, b in edges]
    shuffler.shuffle(shuffled)

    for given_edges in (edges, shuffled):
        left, right = (np.array([edge[side] for edge in given_edges], np.uint64) for side in (0, 1))
        keys, parents = components(left, right)
        assert keys.tolist() == sorted({key for edge in edges for key in edge})
        assert (parents <= np.arange(len(parents))).all()
        assert grouped(keys, parents) == brute_force(set(edges))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_dense_graphs_too(edges: list[tuple[int, int]]) -> None:
    left, right = (np.array([edge[side] for edge in edges], np.uint64) for side in (0, 1))

    assert grouped(*components(left, right)) == brute_force(set(edges))


def test_a_long_chain_given_backwards_is_one_component() -> None:
    chain = np.arange(100_000, dtype=np.uint64)
    keys, parents = components(chain[:0:-1], chain[-2::-1])

    assert len(keys) == 100_000
    assert not parents.any()


def test_no_edges_have_no_components() -> None:
    keys, parents = components(np.zeros(0, np.uint64), np.zeros(0, np.uint64))

    assert (keys.tolist(), parents.tolist()) == ([], [])
