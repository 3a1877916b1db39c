"""From buckets to components: which documents must be compared with which.

A row key names one row of one shard (`shard << 32 | row`). Keys say where a document lies; they never decide who
stays. Every step is a function of the *set* of its input rows, so arrival order and partitioning leave no trace.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64


def row_keys(shard: int, rows: npt.NDArray[np.integer]) -> U64:
    """Row keys of `rows` of one shard."""
    return (np.uint64(shard) << np.uint64(32)) | rows.astype(np.uint64)


def shard_of(keys: U64) -> I64:
    return (keys >> np.uint64(32)).astype(np.int64)


def row_of(keys: U64) -> I64:
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def bucket_edges(buckets: U64, keys: U64) -> tuple[U64, U64]:
    """Edges that join the members of each bucket: (member, smallest key of its bucket), k - 1 for k members.

    A star is enough for connectivity, which is all that is asked of it; who is compared with whom is decided later,
    inside a component. (All pairs of a bucket would be k²/2 edges: a template shared by 10⁶ pages would be 5·10¹¹.)
    """
    if not len(keys):
        return keys, keys
    order = np.argsort(buckets)  # not stable, and need not be: inside a bucket only the smallest key is looked for
    sorted_buckets = buckets[order]
    repeated = np.concatenate(([False], sorted_buckets[1:] == sorted_buckets[:-1]))
    member = repeated | np.concatenate((repeated[1:], [False]))
    sorted_buckets, members = sorted_buckets[member], keys[order[member]]
    if not len(members):
        return members, members
    first = np.flatnonzero(np.concatenate(([True], sorted_buckets[1:] != sorted_buckets[:-1])))
    smallest = np.repeat(np.minimum.reduceat(members, first), np.diff(np.append(first, len(members))))
    other = members != smallest
    return members[other], smallest[other]


@njit(nogil=True, cache=True)
def _union_find(left: I64, right: I64, parent: I64) -> None:
    for i in range(left.shape[0]):
        a, b = left[i], right[i]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for i in range(parent.shape[0]):  # parents are smaller than children, so one pass in order flattens the forest
        parent[i] = parent[parent[i]]


def components(left: U64, right: U64) -> tuple[U64, I64]:
    """Connected components of an edge list.

    Returns:
        The keys that occur, sorted, and for each the index of the smallest key of its component.
    """
    keys, index = np.unique(np.concatenate((left, right)), return_inverse=True)
    parent = np.arange(len(keys), dtype=np.int64)
    if len(keys):
        index = index.astype(np.int64)
        _union_find(index[: len(left)], index[len(left) :], parent)
    return keys, parent
