"""One table of the words of a batch: where each starts, its length in characters, its hash, what it is made of.

In: a `TextBatch`. Out: a `WordTable`, made once per batch and definition of a word (`TextBatch.shared`) and read by
every rule that counts words. Three definitions:

- `whitespace`: what `str.split` gives.
- `datatrove`: close to what datatrove's English tokeniser (spaCy's rules) gives: punctuation stands alone.
- `terms`: lower-cased runs of `\\w`, for finding one text inside another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.english_words import chunk_end, is_link, token_end
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode

U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
WordsOf = Literal["whitespace", "datatrove"]

HAS_ALPHA = 1  # at least one letter
HAS_NON_SYMBOL = 2  # at least one character that is neither punctuation nor a symbol

# FNV-1a's 64-bit offset and prime, and the finaliser of MurmurHash3: together every bit of the word moves every bit
# of the hash. Any other good mixing would do; changing it changes no verdict, only ties of a 2**-64 collision.
SEED = np.uint64(0xCBF29CE484222325)
PRIME = np.uint64(0x100000001B3)
MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
SHIFT = np.uint64(33)

_SPACE = unicode_tables.SPACE
_ALPHA = unicode_tables.ALPHA
_PUNCT = unicode_tables.PUNCT
_WORD = unicode_tables.WORD


@dataclass(frozen=True)
class WordTable:
    """The words of a batch in reading order; those of document d are `doc_words[d]:doc_words[d + 1]`."""

    starts: I64  # byte in the batch's buffer
    ends: I64
    chars: I32  # length in code points
    hashes: U64
    flags: U8  # HAS_ALPHA | HAS_NON_SYMBOL
    doc_words: I64  # shape (documents + 1,)


def words(batch: TextBatch, of: WordsOf = "whitespace") -> WordTable:
    """The words of `batch`, tokenised once however many rules ask."""
    return batch.shared(("words", of), lambda b: _table(b, _KERNELS[of], unicode_tables.classes()))


def terms(batch: TextBatch) -> WordTable:
    """The lower-cased `\\w+` runs of `batch`; `hashes` are of the lower-cased text."""
    return batch.shared("terms", lambda b: _table(b, _scan_terms, unicode_tables.classes(), unicode_tables.lower()))


def char_counts(batch: TextBatch) -> I64:
    """Code points of each text, shape (documents,)."""
    return batch.shared("char_counts", lambda b: _char_counts(b.data, b.offsets))


def hash_of(word: str) -> int:
    """The hash that the tables give `word` (for `terms`: of a word already in lower case)."""
    h = int(SEED)
    for byte in word.encode("utf-8", "surrogatepass"):
        h = (h ^ byte) * int(PRIME) & 0xFFFFFFFFFFFFFFFF
    for factor in (int(MIX_1), int(MIX_2)):
        h = (h ^ (h >> 33)) * factor & 0xFFFFFFFFFFFFFFFF
    return h ^ (h >> 33)


def _table(batch: TextBatch, kernel: Callable[..., int], *tables: npt.NDArray[Any]) -> WordTable:
    bound = int(batch.offsets[-1] - batch.offsets[0]) + 1  # no word is shorter than a byte
    starts, ends = np.empty(bound, np.int64), np.empty(bound, np.int64)
    chars, hashes, flags = np.empty(bound, np.int32), np.empty(bound, np.uint64), np.empty(bound, np.uint8)
    doc_words = np.zeros(len(batch) + 1, np.int64)
    n = kernel(batch.data, batch.offsets, *tables, starts, ends, chars, hashes, flags, doc_words)
    # Copied, so that the table holds what it needs and the scratch of one word a byte is freed.
    return WordTable(
        starts[:n].copy(), ends[:n].copy(), chars[:n].copy(), hashes[:n].copy(), flags[:n].copy(), doc_words
    )


@njit(nogil=True, cache=True)
def finish(h: np.uint64) -> np.uint64:
    """The last step of a word's hash."""
    h = (h ^ (h >> SHIFT)) * MIX_1
    h = (h ^ (h >> SHIFT)) * MIX_2
    return h ^ (h >> SHIFT)


@njit(nogil=True, cache=True)
def hash_bytes(data: U8, start: int | np.int64, stop: int | np.int64) -> np.uint64:
    """The hash of `data[start:stop]`: that of a word with these bytes."""
    h = SEED
    for i in range(start, stop):
        h = (h ^ np.uint64(data[i])) * PRIME
    return finish(h)


@njit(nogil=True, cache=True)
def _char_counts(data: U8, offsets: I64) -> I64:
    counts = np.zeros(offsets.shape[0] - 1, np.int64)
    for d in range(counts.shape[0]):
        n = 0
        for i in range(offsets[d], offsets[d + 1]):
            n += (data[i] & 0xC0) != 0x80
        counts[d] = n
    return counts


@njit(nogil=True, cache=True)
def _scan_whitespace(
    data: U8, offsets: I64, classes: U8, starts: I64, ends: I64, chars: I32, hashes: U64, flags: U8, doc_words: I64
) -> int:
    n = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        h, length, flag = SEED, 0, 0
        while i < stop:
            point, width = decode(data, i)
            bits = classes[point]
            if bits & _SPACE:
                if length:
                    ends[n], chars[n], hashes[n], flags[n] = i, length, finish(h), flag
                    n += 1
                    h, length, flag = SEED, 0, 0
            else:
                if length == 0:
                    starts[n] = i
                for k in range(i, i + width):
                    h = (h ^ np.uint64(data[k])) * PRIME
                length += 1
                flag |= (HAS_ALPHA if bits & _ALPHA else 0) | (0 if bits & _PUNCT else HAS_NON_SYMBOL)
            i += width
        if length:
            ends[n], chars[n], hashes[n], flags[n] = stop, length, finish(h), flag
            n += 1
        doc_words[d + 1] = n
    return n


@njit(nogil=True, cache=True)
def _scan_terms(
    data: U8,
    offsets: I64,
    classes: U8,
    lower: I32,
    starts: I64,
    ends: I64,
    chars: I32,
    hashes: U64,
    flags: U8,
    doc_words: I64,
) -> int:
    n = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        h, length, flag = SEED, 0, 0
        while i < stop:
            point, width = decode(data, i)
            bits = classes[point]
            if bits & _WORD:
                if length == 0:
                    starts[n] = i
                h = _hash_point(h, lower[point])
                length += 1
                flag |= HAS_NON_SYMBOL | (HAS_ALPHA if bits & _ALPHA else 0)
            elif length:
                ends[n], chars[n], hashes[n], flags[n] = i, length, finish(h), flag
                n += 1
                h, length, flag = SEED, 0, 0
            i += width
        if length:
            ends[n], chars[n], hashes[n], flags[n] = stop, length, finish(h), flag
            n += 1
        doc_words[d + 1] = n
    return n


@njit(nogil=True, cache=True)
def _hash_point(h: np.uint64, point: int) -> np.uint64:
    """`h` after the UTF-8 bytes of `point`."""
    p = np.uint64(point)
    low, six = np.uint64(0x3F), np.uint64(0x80)
    if point < 0x80:
        return (h ^ p) * PRIME
    if point < 0x800:
        h = (h ^ (np.uint64(0xC0) | (p >> np.uint64(6)))) * PRIME
        return (h ^ (six | (p & low))) * PRIME
    if point < 0x10000:
        h = (h ^ (np.uint64(0xE0) | (p >> np.uint64(12)))) * PRIME
    else:
        h = (h ^ (np.uint64(0xF0) | (p >> np.uint64(18)))) * PRIME
        h = (h ^ (six | ((p >> np.uint64(12)) & low))) * PRIME
    h = (h ^ (six | ((p >> np.uint64(6)) & low))) * PRIME
    return (h ^ (six | (p & low))) * PRIME


@njit(nogil=True, cache=True)
def _scan_datatrove(
    data: U8, offsets: I64, classes: U8, starts: I64, ends: I64, chars: I32, hashes: U64, flags: U8, doc_words: I64
) -> int:
    n = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        while i < stop:
            point, width = decode(data, i)
            if classes[point] & _SPACE:
                i += width
                continue
            chunk = chunk_end(data, i, stop, classes)
            begin = i
            while i < chunk:
                end = chunk if is_link(data, i, chunk) else token_end(data, i, begin, chunk, classes)
                starts[n], ends[n], hashes[n] = i, end, hash_bytes(data, i, end)
                length, flag = 0, 0
                while i < end:
                    point, width = decode(data, i)
                    bits = classes[point]
                    flag |= (HAS_ALPHA if bits & _ALPHA else 0) | (0 if bits & _PUNCT else HAS_NON_SYMBOL)
                    length += 1
                    i += width
                chars[n], flags[n] = length, flag
                n += 1
        doc_words[d + 1] = n
    return n


_KERNELS: dict[str, Callable[..., int]] = {"whitespace": _scan_whitespace, "datatrove": _scan_datatrove}
