"""Which copy of a repeated line stays: the first in an order of documents that no file, shard or arrival decides.

In: hashes of lines, where each stands, the rank of its document. Out: for each line its number among its copies; a
ruleset that keeps `k` copies cuts those of number >= k. A line key is `shard << 32 | number of the line in the shard`,
so that keys of one document ascend in reading order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

_COPY = np.uint64(1 << 63)  # ranks of documents that copy another one: behind every document that stays


def document_ranks(id_hash: U64, content: U64, is_copy: npt.NDArray[np.bool_]) -> U64:
    """The rank of each document: lines of smaller rank stay.

    Documents that stay come before their copies, so that a line never stays in a removed document alone; otherwise
    the order is that of a hash over id and text, which favours no source.

    Args:
        id_hash, content: 64-bit hashes of id and text. is_copy: the dedup pass found it to copy another document.
    """
    mixed = (id_hash ^ content) >> np.uint64(1)
    return np.where(is_copy, mixed | _COPY, mixed)


def stays(ranks: U64) -> npt.NDArray[np.bool_]:
    """Whether the rank is one of a document that is no copy."""
    return ranks < _COPY


@dataclass(frozen=True)
class Copies:
    """What is known of the lines in one place; arrays of one length, in the order of the lines given."""

    numbers: I64  # 0 for the first copy in the order of (rank, key), 1 for the next
    counts: I64  # at the first copy: the sum of the weights of all of them; 0 elsewhere


def number_copies(hashes: U64, ranks: U64, keys: U64, weights: I64) -> Copies:
    """Number the lines of equal hash. A function of the set of rows: their order leaves no trace."""
    numbers, counts = np.zeros(len(hashes), np.int64), weights.copy()
    if not len(hashes):
        return Copies(numbers, counts)
    order = np.argsort(hashes)  # need not be stable: lines that repeat are sorted again
    ordered = hashes[order]
    again = np.concatenate(([False], ordered[1:] == ordered[:-1]))
    at = order[again | np.concatenate((again[1:], [False]))]
    if not len(at):
        return Copies(numbers, counts)
    at = at[np.lexsort((keys[at], ranks[at], hashes[at]))]
    repeated = hashes[at]
    first = np.flatnonzero(np.concatenate(([True], repeated[1:] != repeated[:-1])))
    sizes = np.diff(np.append(first, len(at)))
    numbers[at] = np.arange(len(at)) - np.repeat(first, sizes)
    counts[at] = 0
    counts[at[first]] = np.add.reduceat(weights[at], first)
    return Copies(numbers, counts)
