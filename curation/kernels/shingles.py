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
_S7 = np.uint64(7)
_BAND_SEED = np.uint64(0xD6E8FEB86659FD93)
_EMPTY = np.uint32(0xFFFFFFFF)  # signature of a text without a word: greater than or equal to every hash
# Permutations per block (112 = 2 x 56) and shingles per step of the inner loop (8, written out): a step loads its
# permutations once for eight shingles. Measured: 3.1 thousand million permutations a second with one shingle a step,
# 5.2 with two, 6.7 with four, 7.9 with eight; blocks of 16, 28, 112: 6.1, 4.6, 5.2.
_LANES = 56
_WORD = np.uint8(unicode_tables.WORD)
_SINGLE = np.uint8(unicode_tables.SINGLE)


@njit(nogil=True, cache=True, inline="always")
def _fmix64(h: Any) -> Any:
    h ^= h >> _S33
    h *= _MIX_1
    h ^= h >> _S33
    h *= _MIX_2
    return h ^ (h >> _S33)


@njit(nogil=True, cache=True)
def _word_hashes(
    data: U8,
    offsets: I64,
    ascii_fold: U8,
    classes: U8,
    lower: npt.NDArray[np.int32],
    hashes: U64,
    word_offsets: I64,
) -> int:
    count = 0
    for doc in range(offsets.shape[0] - 1):
        word_offsets[doc] = count
        h = _FNV_OFFSET
        inside = False
        i = offsets[doc]
        stop = offsets[doc + 1]
        while i < stop:
            byte = data[i]
            if byte < 0x80:
                i += 1
                folded = ascii_fold[byte]
                if folded:
                    h = (h ^ np.uint64(folded)) * _FNV_PRIME
                    inside = True
                elif inside:
                    hashes[count] = _fmix64(h)
                    count += 1
                    h = _FNV_OFFSET
                    inside = False
                continue
            point, width = decode(data, i)
            i += width
            kind = classes[point]
            if kind & _WORD:
                if inside and kind & _SINGLE:  # the run before an unspaced character ends here
                    hashes[count] = _fmix64(h)
                    count += 1
                    h = _FNV_OFFSET
                h = (h ^ np.uint64(lower[point])) * _FNV_PRIME
                inside = True
                if kind & _SINGLE:
                    hashes[count] = _fmix64(h)
                    count += 1
                    h = _FNV_OFFSET
                    inside = False
            elif inside:
                hashes[count] = _fmix64(h)
                count += 1
                h = _FNV_OFFSET
                inside = False
        if inside:
            hashes[count] = _fmix64(h)
            count += 1
    word_offsets[offsets.shape[0] - 1] = count
    return count


@njit(nogil=True, cache=True)
def _shingle_hashes(words: U64, ngram: int, out: U64) -> int:
    """Hashes of the n-grams of one text's words; returns how many (repeats included)."""
    size = words.shape[0]
    if size == 0:
        return 0
    length = min(ngram, size)
    leading = np.uint64(1)
    for _ in range(length - 1):
        leading *= _GRAM
    h = np.uint64(0)
    for j in range(length):
        h = h * _GRAM + words[j]
    out[0] = _fmix64(h)
    count: int = size - length + 1
    for j in range(1, count):
        h = (h - words[j - 1] * leading) * _GRAM + words[j + length - 1]
        out[j] = _fmix64(h)
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
                    multiplier, offset, low = a[base + k], b[base + k], lanes[k]
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
                    lanes[k] = min(lanes[k], np.uint32(np.uint32(x * a[base + k]) + b[base + k]))
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
    span = int(batch.offsets[-1] - batch.offsets[0])
    hashes = np.empty(span + len(batch) + 1, np.uint64)
    word_offsets = np.zeros(len(batch) + 1, np.int64)
    classes, lower = unicode_tables.classes(), unicode_tables.lower()
    # Lower-case byte of every ASCII word character, 0 for the others: four fifths of the web in one look-up a byte.
    ascii_fold = np.where(classes[:128] & _WORD, lower[:128], 0).astype(np.uint8)
    count = _word_hashes(batch.data, batch.offsets, ascii_fold, classes, lower, hashes, word_offsets)
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
def _shingle_sets(words: U64, word_offsets: I64, wanted: I64, ngram: int, out: U64, out_offsets: I64) -> int:
    position = 0
    for index in range(wanted.shape[0]):
        doc = wanted[index]
        out_offsets[index] = position
        part = out[position : position + word_offsets[doc + 1] - word_offsets[doc]]
        count = _shingle_hashes(words[word_offsets[doc] : word_offsets[doc + 1]], ngram, part)
        part = part[:count]
        part.sort()
        kept = 0
        for i in range(count):
            if i == 0 or part[i] != part[i - 1]:
                out[position + kept] = part[i]
                kept += 1
        position += kept
    out_offsets[wanted.shape[0]] = position
    return position


def shingle_sets(batch: TextBatch, ngram: int, rows: I64 | None = None) -> tuple[U64, I64]:
    """The set of 64-bit shingle hashes of the texts at `rows` (default: all), each sorted: flat array and offsets."""
    words, word_offsets = shared_words(batch)
    wanted = np.arange(len(batch)) if rows is None else rows.astype(np.int64)
    total = int((word_offsets[wanted + 1] - word_offsets[wanted]).sum()) if len(wanted) else 0
    out, out_offsets = np.empty(total + 1, np.uint64), np.zeros(len(wanted) + 1, np.int64)
    size = _shingle_sets(words, word_offsets, wanted, ngram, out, out_offsets)
    return out[:size], out_offsets
