"""Words, word n-grams and MinHash signatures of a batch, in one scan over its UTF-8 buffer.

A word is a maximal run of word characters (re's \\w), lower-cased character by character; in scripts written without
spaces every character is a word. A shingle is `ngram` consecutive words; a text with fewer words is one shingle.
Every hash is defined by arithmetic on code points, so it is the same on every platform and Python version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, draft-eastlake-fnv, 64-bit parameters
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)  # fmix64 of MurmurHash3 (Appleby): full avalanche
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_GRAM = np.uint64(0x9E3779B97F4A7C15)  # odd base of the polynomial over word hashes: 2**64 / golden ratio
_S33 = np.uint64(33)
_S32 = np.uint64(32)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_BAND_SEED = np.uint64(0xD6E8FEB86659FD93)
_EMPTY = np.uint32(0xFFFFFFFF)  # signature of a text without a word: greater than or equal to every hash
# Permutations per block (112 = 2 x 56) and shingles per step of the inner loop (8, written out): a step loads its
# permutations once for eight shingles. Measured: 3.1 thousand million permutations a second with one shingle a step,
# 5.2 with two, 6.7 with four, 7.9 with eight, 18 since they are loaded and not gathered; blocks of 16, 28: 17, 10.
_LANES = 56
_BLOCK = 32  # bytes folded at once where all are ASCII; 16: 2.1 us for 2 KB, 32: 1.1, 64: 1.3
_WORD = np.uint8(unicode_tables.WORD)
_SINGLE = np.uint8(unicode_tables.SINGLE)


@njit(nogil=True, cache=True, inline="always")
def _fmix64(h: Any) -> Any:
    h ^= h >> _S33
    h *= _MIX_1
    h ^= h >> _S33
    h *= _MIX_2
    return h ^ (h >> _S33)


@njit(nogil=True, cache=True, inline="always")
def _fold_ascii(byte: Any) -> Any:
    """The lower-case byte of an ASCII word character, else 0; arithmetic, so that a loop of it is vectorised."""
    low = np.uint8(byte | np.uint8(0x20))
    letter = np.uint8(low - np.uint8(0x61)) < np.uint8(26)
    digit_or_underscore = (np.uint8(byte - np.uint8(0x30)) < np.uint8(10)) | (byte == np.uint8(0x5F))
    other = byte if digit_or_underscore else np.uint8(0)
    return low if letter else other


@njit(nogil=True, cache=True)
def _fold(data: U8, start: int, stop: int, classes: U8, lower: npt.NDArray[np.int32], units: U32) -> int:
    """`data[start:stop]` as lower-case code points of word characters, a 0 wherever a word ends; returns how many.

    A character of an unspaced script, three bytes or more, stands between zeros: so there are no more units than bytes.
    """
    n = 0
    i = start
    while i < stop:
        while i + _BLOCK <= stop:
            block, to = data[i : i + _BLOCK], units[n : n + _BLOCK]
            high = np.uint8(0)
            for k in range(_BLOCK):
                byte = block[k]
                high = np.uint8(high | byte)
                to[k] = _fold_ascii(byte)
            if high >= 0x80:
                break
            i += _BLOCK
            n += _BLOCK
        end = min(i + _BLOCK, stop)
        while i < end:
            if data[i] < 0x80:
                units[n] = _fold_ascii(data[i])
                i += 1
                n += 1
                continue
            point, width = decode(data, i)
            i += width
            kind = classes[point]
            single = (kind & _WORD) and (kind & _SINGLE)
            if single:
                units[n] = 0
                n += 1
            units[n] = lower[point] if kind & _WORD else 0
            n += 1
            if single:
                units[n] = 0
                n += 1
    return n


@njit(nogil=True, cache=True)
def _hash_lane(units: U32, before: Any, h: Any, out: U64, position: Any) -> Any:
    """Finish a lane: hashes of the words of `units`, of which `h` is the state after the unit `before`."""
    for j in range(units.shape[0]):
        unit = np.uint64(units[j])
        out[position] = h
        position += np.uint64((unit == _ZERO) & (before != _ZERO))
        h = (h ^ unit) * _FNV_PRIME if unit != _ZERO else _FNV_OFFSET
        before = unit
    out[position] = h
    return position + np.uint64(before != _ZERO)


@njit(nogil=True, cache=True)
def _hash_units(units: U32, out: U64, first: int) -> int:
    """Put the hash of every word of one text to `out[first:]`; returns where the next text's begin.

    FNV-1a waits for its own product at every character, and the end of a word cannot be predicted: so there is no
    branch but the loop's (every state is stored, and overwritten while its word goes on), and the two halves of the
    text go side by side. Measured: 3.3 us for 2 KB of English, 6.6 with one branching scan.
    """
    size = units.shape[0]
    middle = size // 2
    while middle < size and units[middle] != 0:
        middle += 1
    left, right = units[:middle], units[middle:]
    both = min(middle, size - middle)
    at_left = np.uint64(first)
    begin = np.uint64(first + (middle + 1) // 2 + 2)  # the left half has at most so many words, and one state more
    at_right = begin
    h_left = h_right = _FNV_OFFSET
    before_left = before_right = _ZERO
    j = _ZERO
    while j < np.uint64(both):
        unit_left, unit_right = np.uint64(left[j]), np.uint64(right[j])
        out[at_left] = h_left
        out[at_right] = h_right
        at_left += np.uint64((unit_left == _ZERO) & (before_left != _ZERO))
        at_right += np.uint64((unit_right == _ZERO) & (before_right != _ZERO))
        next_left = (h_left ^ unit_left) * _FNV_PRIME
        next_right = (h_right ^ unit_right) * _FNV_PRIME
        h_left = next_left if unit_left != _ZERO else _FNV_OFFSET
        h_right = next_right if unit_right != _ZERO else _FNV_OFFSET
        before_left, before_right = unit_left, unit_right
        j += _ONE
    at_left = _hash_lane(left[both:], before_left, h_left, out, at_left)
    at_right = _hash_lane(right[both:], before_right, h_right, out, at_right)
    while begin < at_right:
        out[at_left] = out[begin]
        at_left += _ONE
        begin += _ONE
    last = int(np.int64(at_left))
    found = out[first:last]
    for k in range(found.shape[0]):
        found[k] = _fmix64(found[k])
    return last


@njit(nogil=True, cache=True)
def _word_hashes(
    data: U8, offsets: I64, classes: U8, lower: npt.NDArray[np.int32], units: U32, hashes: U64, word_offsets: I64
) -> int:
    count = 0
    for doc in range(offsets.shape[0] - 1):
        word_offsets[doc] = count
        size = _fold(data, offsets[doc], offsets[doc + 1], classes, lower, units)
        count = _hash_units(units[:size], hashes, count)
    word_offsets[offsets.shape[0] - 1] = count
    return count


@njit(nogil=True, cache=True)
def _shingle_hashes(words: U64, ngram: int, out: U64) -> int:
    """Hashes of the n-grams of one text's words; returns how many (repeats included).

    One pass over the text a word of the n-gram, each vectorised: 0.6 us for 370 words and n = 5; a rolling hash, which
    waits for itself, took 1.5.
    """
    size = words.shape[0]
    if size == 0:
        return 0
    length = min(ngram, size)
    count: int = size - length + 1
    grams = out[:count]
    for j in range(count):
        grams[j] = words[j]
    for k in range(1, length):
        shifted = words[k : k + count]
        for j in range(count):
            grams[j] = grams[j] * _GRAM + shifted[j]
    for j in range(count):
        grams[j] = _fmix64(grams[j])
    return count


@njit(nogil=True, cache=True)
def _minhash(
    words: U64, word_offsets: I64, ngram: int, a: U32, b: U32, signatures: U32, folded: U32, grams: U64
) -> None:
    lanes = np.empty(_LANES, np.uint32)
    for doc in range(word_offsets.shape[0] - 1):
        count = _shingle_hashes(words[word_offsets[doc] : word_offsets[doc + 1]], ngram, grams)
        for i in range(count):
            # datasketch's affine32 scheme mixes the 32-bit element hash with fmix32 before it permutes.
            x = np.uint32(grams[i] >> _S32)
            x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
            x = np.uint32(x * np.uint32(0x85EBCA6B))
            x = np.uint32(x ^ np.uint32(x >> np.uint32(13)))
            x = np.uint32(x * np.uint32(0xC2B2AE35))
            folded[i] = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
        for base in range(0, a.shape[0], _LANES):
            # Slices: an index that might be negative makes the compiler gather what it could load.
            multipliers, added = a[base : base + _LANES], b[base : base + _LANES]
            for k in range(_LANES):
                lanes[k] = _EMPTY
            i = 0
            while i + 8 <= count:
                x0, x1, x2, x3, x4, x5, x6, x7 = (
                    folded[i],
                    folded[i + 1],
                    folded[i + 2],
                    folded[i + 3],
                    folded[i + 4],
                    folded[i + 5],
                    folded[i + 6],
                    folded[i + 7],
                )
                for k in range(_LANES):
                    multiplier, offset, low = multipliers[k], added[k], lanes[k]
                    low = min(low, np.uint32(np.uint32(x0 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x1 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x2 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x3 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x4 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x5 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x6 * multiplier) + offset))
                    low = min(low, np.uint32(np.uint32(x7 * multiplier) + offset))
                    lanes[k] = low
                i += 8
            while i < count:
                x = folded[i]
                for k in range(_LANES):
                    lanes[k] = min(lanes[k], np.uint32(np.uint32(x * multipliers[k]) + added[k]))
                i += 1
            for k in range(_LANES):
                signatures[doc, base + k] = lanes[k]


@njit(nogil=True, cache=True)
def _band_hashes(signatures: U32, rows: int, out: U64) -> None:
    for doc in range(signatures.shape[0]):
        for band in range(out.shape[1]):
            h = np.uint64(band + 1) * _BAND_SEED
            for j in range(rows):
                h = _fmix64(h ^ np.uint64(signatures[doc, band * rows + j]))
            out[doc, band] = h


def word_hashes(batch: TextBatch) -> tuple[U64, I64]:
    """64-bit hashes of all words of a batch and, per text, where its words begin (length `len(batch)` + 1)."""
    sizes = np.diff(batch.offsets)
    hashes = np.empty(int(sizes.sum()) // 2 + len(batch) + 8, np.uint64)  # every second character begins a word
    units = np.empty(int(sizes.max(initial=0)), np.uint32)
    word_offsets = np.zeros(len(batch) + 1, np.int64)
    classes, lower = unicode_tables.classes(), unicode_tables.lower()
    count = _word_hashes(batch.data, batch.offsets, classes, lower, units, hashes, word_offsets)
    return hashes[:count], word_offsets


def shared_words(batch: TextBatch) -> tuple[U64, I64]:
    """`word_hashes`, computed once a batch."""
    return batch.shared("word_hashes", word_hashes)


def permutations(count: int, seed: int) -> tuple[U32, U32]:
    """Multipliers (odd) and offsets of `count` hash permutations: datasketch 2's scheme `affine32` of the same seed."""
    generator = np.random.RandomState(seed)
    a = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return a, b


def minhash(batch: TextBatch, ngram: int, count: int, seed: int) -> U32:
    """MinHash signatures, shape (len(batch), count); a text without words has 0xFFFFFFFF everywhere.

    Identical to `datasketch.MinHash(num_perm=count, seed=seed, scheme="affine32")` fed with the upper 32 bits of
    `shingle_sets`.
    """
    words, word_offsets = shared_words(batch)
    a, b = permutations(count, seed)
    padded = -(-count // _LANES) * _LANES
    a, b = np.resize(a, padded), np.resize(b, padded)
    longest = int(np.diff(word_offsets).max(initial=0))
    signatures = np.empty((len(batch), padded), np.uint32)
    folded, grams = np.empty(longest + 1, np.uint32), np.empty(longest + 1, np.uint64)
    _minhash(words, word_offsets, ngram, a, b, signatures, folded, grams)
    return signatures[:, :count]


def band_hashes(signatures: U32, bands: int, rows: int) -> U64:
    """One 64-bit key per band, shape (documents, bands); equal keys mean equal rows in that band (and only there)."""
    out = np.empty((len(signatures), bands), np.uint64)
    _band_hashes(np.ascontiguousarray(signatures), rows, out)
    return out


@njit(nogil=True, cache=True)
def fill_table(values: U64, table: U64, distinct: U64) -> int:
    """Make `table` hold `values`, and put each of them once, in the order given, to `distinct`; returns how many.

    Open addressing: value v stands in the first free slot from `v & (size - 1)` on, a free slot holds 0, and the slot
    behind the last says whether 0 is among the values.

    Args:
        table: of a power of two slots, at least twice as many as there are values, and one. distinct: may be `values`.
    """
    mask = np.uint64(table.shape[0] - 2)
    table[:] = 0
    count = 0
    for i in range(values.shape[0]):
        value = values[i]
        slot = value & mask if value != _ZERO else mask + _ONE
        stored = value if value != _ZERO else _ONE
        while table[slot] != _ZERO and table[slot] != stored:
            slot = (slot + _ONE) & mask
        if table[slot] == _ZERO:
            table[slot] = stored
            distinct[count] = value
            count += 1
    return count


@njit(nogil=True, cache=True, inline="always")
def in_table(value: Any, table: U64) -> Any:
    """Whether `fill_table` put `value` there."""
    mask = np.uint64(table.shape[0] - 2)
    slot = value & mask if value != _ZERO else mask + _ONE
    stored = value if value != _ZERO else _ONE
    while table[slot] != _ZERO and table[slot] != stored:
        slot = (slot + _ONE) & mask
    return table[slot] != _ZERO


@njit(nogil=True, cache=True)
def table_slots(values: int) -> int:
    """The length of a table for so many values."""
    slots = 8
    while slots < 2 * values:
        slots *= 2
    return slots + 1


@njit(nogil=True, cache=True)
def _shingle_sets(
    words: U64, word_offsets: I64, wanted: I64, ngram: int, table: U64, out: U64, out_offsets: I64
) -> int:
    position = 0
    for index in range(wanted.shape[0]):
        doc = wanted[index]
        out_offsets[index] = position
        part = out[position : position + word_offsets[doc + 1] - word_offsets[doc]]
        count = _shingle_hashes(words[word_offsets[doc] : word_offsets[doc + 1]], ngram, part)
        position += fill_table(part[:count], table[: table_slots(count)], part)
    out_offsets[wanted.shape[0]] = position
    return position


def shingle_sets(batch: TextBatch, ngram: int, rows: I64 | None = None) -> tuple[U64, I64]:
    """The set of 64-bit shingle hashes of the texts at `rows` (default: all): flat array and offsets.

    Each shingle of a set stands where the text has it first.
    """
    words, word_offsets = shared_words(batch)
    wanted = np.arange(len(batch)) if rows is None else rows.astype(np.int64)
    sizes = word_offsets[wanted + 1] - word_offsets[wanted]
    out, out_offsets = np.empty(int(sizes.sum()) + 1, np.uint64), np.zeros(len(wanted) + 1, np.int64)
    table = np.empty(table_slots(int(sizes.max(initial=0))), np.uint64)
    size = _shingle_sets(words, word_offsets, wanted, ngram, table, out, out_offsets)
    return out[:size], out_offsets
