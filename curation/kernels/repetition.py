"""How much of a document repeats: duplicate lines, duplicate paragraphs, and word n-grams.

In: a `TextBatch` and its `WordTable`. Out: counts per document, which filters divide. n-grams and lines are compared
by 64-bit hashes in an open-addressing table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.lines import LineTable
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode
from curation.kernels.words import I32, U64, WordTable, finish, hash_bytes

TOP_N = (2, 3, 4)
DUPLICATE_N = (5, 6, 7, 8, 9, 10)
I32Array = npt.NDArray[np.int32]
_SPACE = unicode_tables.SPACE
_NGRAM = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads the words of an n-gram over all bits


def duplicate_segments(batch: TextBatch, every_copy: bool) -> I64:
    """Duplicate lines and paragraphs of each document, shape (documents, 6).

    Columns: lines, duplicate lines, characters in them; paragraphs, duplicate paragraphs, characters in them. Lines
    are what stands between runs of newlines; paragraphs what stands between runs of two or more, in the text without
    white space at its ends.

    Args:
        every_copy: count the first copy of a repeated line too (Dolma), not only its repeats (datatrove).
    """
    longest = int(np.diff(batch.offsets).max(initial=0))
    size = _table_size(longest // 2 + 2)
    return np.asarray(
        _duplicate_segments(batch.data, batch.offsets, unicode_tables.classes(), every_copy, *_scratch(size)), np.int64
    )


def duplicate_line_chars(batch: TextBatch, table: LineTable) -> I64:
    """Characters in lines that are not blank and repeat an earlier line of their document, shape (documents,)."""
    size = _table_size(int(np.diff(table.doc_lines).max(initial=0)))
    keys, stamps, _, _ = _scratch(size)
    return np.asarray(
        _duplicate_line_chars(
            batch.data, table.starts, table.ends, table.chars, table.words, table.doc_lines, keys, stamps
        ),
        np.int64,
    )


def ngram_chars(table: WordTable, every_copy: bool) -> I64:
    """Characters in repeated word n-grams, shape (documents, 9): top 2-, 3-, 4-gram; duplicate 5- to 10-grams.

    Top: characters of the most frequent n-gram (the first of equals), joined by one space, times its occurrences.
    Duplicate: characters of the words of n-grams seen before, reading from the left and going on behind each.

    Args:
        every_copy: Dolma's counts: words without the spaces, every occurrence of a repeated n-gram, overlaps too.
    """
    size = _table_size(int(np.diff(table.doc_words).max(initial=0)))
    return np.asarray(_ngram_chars(table.hashes, table.chars, table.doc_words, every_copy, *_scratch(size)), np.int64)


def _table_size(entries: int) -> int:
    """A power of two at least twice `entries`, so that a probe ends soon."""
    return max(16, 1 << (2 * max(entries, 1) - 1).bit_length())


def _scratch(size: int) -> tuple[U64, I64, I32Array, I32Array]:
    """Keys, stamps, counts and first positions. A slot is empty unless its stamp is that of the current pass."""
    return np.empty(size, np.uint64), np.zeros(size, np.int64), np.empty(size, np.int32), np.empty(size, np.int32)


@njit(nogil=True, cache=True)
def _mask(entries: int) -> np.uint64:
    size = 16
    while size < 2 * entries:
        size *= 2
    return np.uint64(size - 1)


@njit(nogil=True, cache=True)
def _slot(keys: U64, stamps: I64, mask: np.uint64, stamp: int, key: np.uint64) -> np.int64:
    """Where `key` is, or the empty slot where it belongs."""
    slot = (key ^ (key >> np.uint64(32))) & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@njit(nogil=True, cache=True)
def _segment_end(data: U8, i: int, stop: int, breaks: int) -> int:
    """The first run of at least `breaks` newlines at or after byte `i`, or `stop`."""
    run = 0
    while i < stop:
        if data[i] == 10:
            run += 1
            if run == breaks:
                return i - breaks + 1
        else:
            run = 0
        i += 1
    return stop


@njit(nogil=True, cache=True)
def _strip(data: U8, start: int, stop: int, classes: U8) -> tuple[int, int]:
    """The bytes of `data[start:stop]` without white space at either end."""
    first, last, i, blank = start, start, start, True
    while i < stop:
        point, width = decode(data, i)
        if not classes[point] & _SPACE:
            if blank:
                first, blank = i, False
            last = i + width
        i += width
    return first, last


@njit(nogil=True, cache=True)
def _segments(
    data: U8,
    start: int,
    stop: int,
    breaks: int,
    every_copy: bool,
    stamp: int,
    mask: np.uint64,
    keys: U64,
    stamps: I64,
    counts: I32,
) -> tuple[int, int, int]:
    """Segments between runs of `breaks` or more newlines; duplicates among them; characters in the duplicates."""
    total = duplicates = chars = 0
    i = start
    while True:
        end = _segment_end(data, i, stop, breaks)
        length = 0
        for k in range(i, end):
            length += (data[k] & 0xC0) != 0x80
        key = hash_bytes(data, i, end)
        slot = _slot(keys, stamps, mask, stamp, key)
        total += 1
        if stamps[slot] != stamp:
            keys[slot], stamps[slot], counts[slot] = key, stamp, 1
        else:
            copies = 2 if every_copy and counts[slot] == 1 else 1  # the second copy brings the first one with it
            counts[slot] += 1
            duplicates += copies
            chars += copies * length
        if end >= stop:
            return total, duplicates, chars
        i = end
        while i < stop and data[i] == 10:
            i += 1


@njit(nogil=True, cache=True)
def _duplicate_segments(
    data: U8, offsets: I64, classes: U8, every_copy: bool, keys: U64, stamps: I64, counts: I32, firsts: I32
) -> I64:
    out = np.zeros((offsets.shape[0] - 1, 6), np.int64)
    for d in range(out.shape[0]):
        start, stop = offsets[d], offsets[d + 1]
        newlines = 0
        for i in range(start, stop):
            newlines += data[i] == 10
        mask = _mask(newlines + 1)
        out[d, 0], out[d, 1], out[d, 2] = _segments(
            data, start, stop, 1, every_copy, 2 * d + 1, mask, keys, stamps, counts
        )
        start, stop = _strip(data, start, stop, classes)
        out[d, 3], out[d, 4], out[d, 5] = _segments(
            data, start, stop, 2, every_copy, 2 * d + 2, mask, keys, stamps, counts
        )
    return out


@njit(nogil=True, cache=True)
def _duplicate_line_chars(
    data: U8, starts: I64, ends: I64, chars: I32, words: I32, doc_lines: I64, keys: U64, stamps: I64
) -> I64:
    out = np.zeros(doc_lines.shape[0] - 1, np.int64)
    for d in range(out.shape[0]):
        mask = _mask(doc_lines[d + 1] - doc_lines[d])
        for line in range(doc_lines[d], doc_lines[d + 1]):
            if words[line] == 0:
                continue
            key = hash_bytes(data, starts[line], ends[line])
            slot = _slot(keys, stamps, mask, d + 1, key)
            if stamps[slot] == d + 1:
                out[d] += chars[line]
            else:
                keys[slot], stamps[slot] = key, d + 1
    return out


@njit(nogil=True, cache=True)
def _top(
    grams: U64,
    n_grams: int,
    keys: U64,
    stamps: I64,
    counts: I32,
    firsts: I32,
    mask: np.uint64,
    stamp: int,
) -> tuple[int, int]:
    """How often the most frequent n-gram occurs, and where it is first: the earliest of equals."""
    best, best_first = 0, 0
    for i in range(n_grams):
        slot = _slot(keys, stamps, mask, stamp, grams[i])
        if stamps[slot] == stamp:
            counts[slot] += 1
        else:
            keys[slot], stamps[slot], counts[slot], firsts[slot] = grams[i], stamp, 1, i
        if counts[slot] > best or (counts[slot] == best and firsts[slot] < best_first):
            best, best_first = counts[slot], firsts[slot]
    return best, best_first


@njit(nogil=True, cache=True)
def _repeats(
    grams: U64,
    n_grams: int,
    n: int,
    sums: I64,
    every_copy: bool,
    keys: U64,
    stamps: I64,
    counts: I32,
    mask: np.uint64,
    stamp: int,
) -> tuple[int, bool]:
    """Characters in repeated n-grams, and whether any repeats at all."""
    repeated, any_repeat, i = 0, False, 0
    while i < n_grams:
        slot = _slot(keys, stamps, mask, stamp, grams[i])
        if stamps[slot] == stamp:
            any_repeat = True
            copies = 2 if every_copy and counts[slot] == 1 else 1
            counts[slot] += 1
            repeated += copies * (sums[i + n] - sums[i])
            i += 1 if every_copy else n
        else:
            keys[slot], stamps[slot], counts[slot] = grams[i], stamp, 1
            i += 1
    return repeated, any_repeat


@njit(nogil=True, cache=True)
def _ngram_chars(
    hashes: U64, chars: I32, doc_words: I64, every_copy: bool, keys: U64, stamps: I64, counts: I32, firsts: I32
) -> I64:
    out = np.zeros((doc_words.shape[0] - 1, 9), np.int64)
    longest = 0
    for d in range(out.shape[0]):
        longest = max(longest, doc_words[d + 1] - doc_words[d])
    grams = np.empty(longest, np.uint64)
    sums = np.zeros(longest + 1, np.int64)  # characters of the first i words
    stamp = 0
    for d in range(out.shape[0]):
        first = doc_words[d]
        m = doc_words[d + 1] - first
        mask = _mask(m)
        for i in range(m):
            grams[i] = hashes[first + i]
            sums[i + 1] = sums[i] + chars[first + i]
        for n in range(2, 11):
            n_grams = m - n + 1
            if n_grams < 1:
                break
            for i in range(n_grams):
                grams[i] = finish((grams[i] * _NGRAM) ^ hashes[first + i + n - 1])
            stamp += 1
            if n < 5:
                best, at = _top(grams, n_grams, keys, stamps, counts, firsts, mask, stamp)
                out[d, n - 2] = best * (sums[at + n] - sums[at] + (0 if every_copy else n - 1))
            else:
                repeated, any_repeat = _repeats(grams, n_grams, n, sums, every_copy, keys, stamps, counts, mask, stamp)
                out[d, n - 2] = repeated
                if not any_repeat:  # then no longer n-gram repeats either
                    break
    return out
