"""Which hashes may stand more than once: what need not be sorted to find the few that do.

Nine in ten hashes of a band stand once. Two bits for each of a few slots a hash tell most of them apart in two passes
over the column, without sorting it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

# Slots for each hash: at most one in eight hashes that stand once meets another and is sorted in vain. Of a million
# hashes, 10 % repeated, sorting all takes 70 to 130 ns each; this and sorting the rest 22, with 4 slots 27, with 16 22.
SLOTS = 8
_SHIFT = np.uint64(20)  # the lowest bits of a hash cut to a range and a partition are zeros, the highest all alike
_ONE, _THREE, _LOW, _FIVE = np.uint64(1), np.uint64(3), np.uint64(31), np.uint64(5)


@njit(nogil=True, cache=True)
def _mark(hashes: U64, table: U64, mask: Any) -> None:
    for i in range(hashes.shape[0]):
        slot = (hashes[i] >> _SHIFT) & mask
        shift = (slot & _LOW) << _ONE
        word = table[slot >> _FIVE]
        count = (word >> shift) & _THREE
        # 0 → 1 → 3: one bit says seen, the other seen again.
        table[slot >> _FIVE] = word | ((_ONE if count == 0 else _THREE) << shift)


@njit(nogil=True, cache=True)
def _collect(hashes: U64, table: U64, mask: Any, out: I64) -> int:
    count = 0
    for i in range(hashes.shape[0]):
        slot = (hashes[i] >> _SHIFT) & mask
        out[count] = i
        count += (table[slot >> _FIVE] >> ((slot & _LOW) << _ONE)) & _THREE == _THREE
    return count


def maybe_repeated(hashes: U64) -> I64:
    """Places of all hashes that stand more than once, and of few that do not, in order.

    Args:
        hashes: 64-bit, evenly spread in their middle bits.
    """
    slots = 1 << max(5, (SLOTS * len(hashes) - 1).bit_length())
    table = np.zeros(slots >> 5, np.uint64)
    mask = np.uint64(slots - 1)
    _mark(hashes, table, mask)
    out = np.empty(len(hashes) + 1, np.int64)
    return out[: _collect(hashes, table, mask, out)]
