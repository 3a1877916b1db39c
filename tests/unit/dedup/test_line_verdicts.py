"""Which copy of a line stays, against brute force: whatever the order of the rows and however shards divide them."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.lines import document_ranks, number_copies, stays

# (hash, rank, key, weight): few hashes and ranks, so that lines repeat inside and across documents.
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 2**63), st.integers(0, 9)),
    max_size=40,
    unique_by=lambda row: row[2],
)


def columns(rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(rows, np.uint64).reshape(-1, 4)
    return table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), table[:, 3].astype(np.int64)


def numbered(rows: list[tuple[int, int, int, int]]) -> dict[int, tuple[int, int]]:
    """Line key → (number, count), as compiled."""
    found = number_copies(*columns(rows))
    numbers, counts = found.numbers.tolist(), found.counts.tolist()
    return {row[2]: (number, count) for row, number, count in zip(rows, numbers, counts, strict=True)}


def by_hand(rows: list[tuple[int, int, int, int]]) -> dict[int, tuple[int, int]]:
    groups = defaultdict(list)
    for hash_, rank, key, weight in rows:
        groups[hash_].append((rank, key, weight))
    result = {}
    for members in groups.values():
        for number, (_, key, _) in enumerate(sorted(members)):
            result[key] = (number, 0 if number else sum(weight for *_, weight in members))
    return result


@given(ROWS)
def test_copies_are_numbered_by_rank_then_key(rows: list[tuple[int, int, int, int]]) -> None:
    assert numbered(rows) == by_hand(rows)


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_rows_leaves_no_trace(
    given_rows: tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int, int]]],
) -> None:
    assert numbered(given_rows[0]) == numbered(given_rows[1])


@given(ROWS, st.integers(1, 4), st.integers(1, 3))
def test_sending_only_the_first_copies_of_each_shard_cuts_the_same_lines(
    rows: list[tuple[int, int, int, int]], shards: int, keep: int
) -> None:
    """What the pass does: a shard sends no more than `keep` copies, and judges the others itself."""
    cut, sent = set(), []
    for shard in range(shards):
        here = [row for row in rows if row[2] % shards == shard]
        for hash_, rank, key, _ in here:
            number, count = numbered(here)[key]
            if number < keep:
                sent.append((hash_, rank, key, count))
            else:
                cut.add(key)
    found = numbered(sent)
    cut |= {key for key, (number, _) in found.items() if number >= keep}

    assert cut == {key for key, (number, _) in by_hand(rows).items() if number >= keep}
    totals = Counter[int]()
    for hash_, _, _, weight in rows:
        totals[hash_] += weight
    assert {hash_: found[key][1] for hash_, _, key, _ in sent if found[key][0] == 0} == dict(totals)


def test_every_document_that_stays_comes_before_every_copy() -> None:
    hashes = np.array([0, 2**64 - 1, 5, 9], np.uint64)
    ranks = document_ranks(hashes, np.array([0, 0, 7, 7], np.uint64), np.array([True, False, True, False]))

    assert stays(ranks).tolist() == [False, True, False, True]
    assert max(ranks[stays(ranks)]) < min(ranks[~stays(ranks)])


def test_documents_of_one_id_are_told_apart_by_their_text() -> None:
    ranks = document_ranks(np.array([8, 8], np.uint64), np.array([1 << 20, 1 << 21], np.uint64), np.zeros(2, bool))
    assert ranks[0] != ranks[1]


def test_no_rows_have_no_numbers() -> None:
    found = number_copies(*columns([]))
    assert (found.numbers.tolist(), found.counts.tolist()) == ([], [])
