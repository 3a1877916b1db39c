"""Packed shuffles lose nothing and send each bucket to one partition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import packed
from beam_jobs.packed import PackByPartition, pack, unpack

U64S = st.integers(0, 2**64 - 1)
PAIRS = st.lists(st.tuples(U64S, U64S), max_size=30)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in pairs], np.uint64), np.array([b for _, b in pairs], np.uint64)


def pairs_of(columns: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(columns[0].tolist(), columns[1].tolist(), strict=True))


@given(st.lists(PAIRS, max_size=4))
def test_what_is_packed_is_unpacked(pieces: list[list[tuple[int, int]]]) -> None:
    assert pairs_of(unpack([pack(*arrays(piece)) for piece in pieces])) == [pair for piece in pieces for pair in piece]


def test_the_bytes_are_the_same_on_every_platform() -> None:
    assert pack(*arrays([(1, 2), (256, 3)])) == b"".join(n.to_bytes(8, "little") for n in (1, 256, 2, 3))


def test_nothing_unpacks_to_two_empty_columns() -> None:
    for pieces in ([], [b""]):
        buckets, keys = unpack(pieces)
        assert (buckets.tolist(), keys.tolist(), buckets.dtype, keys.dtype) == ([], [], np.uint64, np.uint64)


def sent(partitions: int, bundles: list[list[list[tuple[int, int]]]]) -> list[tuple[int, bytes]]:
    """What the transform emits for bundles of elements."""
    step = PackByPartition(partitions)
    out = []
    for bundle in bundles:
        step.start_bundle()
        for element in bundle:
            out += list(step.process(arrays(element)))
        out += [item.value for item in step.finish_bundle()]
    return out


@pytest.mark.parametrize("partitions", [1, 2, 8, 256])
@given(bundles=st.lists(st.lists(PAIRS, max_size=3), max_size=3))
def test_every_row_arrives_once_in_the_partition_of_its_bucket(
    partitions: int, bundles: list[list[list[tuple[int, int]]]]
) -> None:
    arrived = []
    for number, piece in sent(partitions, bundles):
        rows = pairs_of(unpack([piece]))
        assert rows
        assert {bucket >> (64 - partitions.bit_length() + 1) for bucket, _ in rows} == {number}
        arrived += rows

    assert sorted(arrived) == sorted(pair for bundle in bundles for element in bundle for pair in element)


def test_a_large_bundle_is_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "FLUSH_ROWS", 4)
    pieces = sent(1, [[[(i, i)] * 3 for i in range(5)]])

    assert [len(unpack([piece])[0]) for _, piece in pieces] == [6, 6, 3]
