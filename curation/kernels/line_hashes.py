"""Every line of a batch as a 64-bit hash of what it says, for finding lines that stand in other documents too.

Two lines are the same when they agree after lower-casing character by character, taking away the white space at both
ends, and writing every run of white space inside as one space. (TFDS's C4 hashes the lower-cased, stripped line.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode
from curation.kernels.words import finish

I32 = npt.NDArray[np.int32]
_SPACE = unicode_tables.SPACE
_SEED = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_STEP = np.uint64(0xD6E8FEB86659FD93)  # odd, so that each step is a bijection: no two characters fall together
_SHIFT = np.uint64(32)


@dataclass(frozen=True)
class LineHashes:
    """Lines in reading order; arrays of one length."""

    hashes: U64
    rows: I32  # document of the batch
    starts: I32  # code points of the document's text
    ends: I32  # after the line, its break, and the blank lines that follow: cutting [start, end) leaves no gap
    chars: I32  # code points that were hashed

    def __len__(self) -> int:
        return len(self.hashes)


def line_hashes(batch: TextBatch, min_chars: int) -> LineHashes:
    """The lines of `batch` (between newlines) of at least `min_chars` hashed characters; never a blank one."""
    bound = int(_newlines(batch.data, batch.offsets)) + len(batch)
    hashes = np.empty(bound, np.uint64)
    rows, starts, ends, chars = (np.empty(bound, np.int32) for _ in range(4))
    n = _scan(
        batch.data,
        batch.offsets,
        unicode_tables.classes(),
        unicode_tables.lower(),
        max(1, min_chars),
        hashes,
        rows,
        starts,
        ends,
        chars,
    )
    return LineHashes(hashes[:n], rows[:n], starts[:n], ends[:n], chars[:n])


@njit(nogil=True, cache=True)
def _newlines(data: U8, offsets: I64) -> int:
    n = 0
    for i in range(offsets[0], offsets[-1]):
        n += data[i] == 10
    return n


@njit(nogil=True, cache=True)
def _scan(
    data: U8,
    offsets: I64,
    classes: U8,
    lower: I32,
    min_chars: int,
    hashes: U64,
    rows: I32,
    starts: I32,
    ends: I32,
    chars: I32,
) -> int:
    n = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        char = 0  # code points of the document read so far
        open_end = False  # the last line that was not blank is in the table: blank lines after it belong to it
        while i < stop:
            start, h, size, gap = char, _SEED, 0, False
            while i < stop and data[i] != 10:
                point, width = decode(data, i)
                i += width
                char += 1
                if classes[point] & _SPACE:
                    gap = size > 0
                    continue
                if gap:
                    h = (h ^ np.uint64(32)) * _STEP
                    h ^= h >> _SHIFT
                    size += 1
                    gap = False
                h = (h ^ np.uint64(lower[point])) * _STEP
                h ^= h >> _SHIFT
                size += 1
            if i < stop:  # the line break
                i += 1
                char += 1
            if size >= min_chars:
                hashes[n] = finish(h)
                rows[n], starts[n], ends[n], chars[n] = d, start, char, size
                n += 1
                open_end = True
            elif size:
                open_end = False
            elif open_end:
                ends[n - 1] = char
    return n
