"""Finds word n-grams of known texts inside a batch: a rolling hash and an open-addressing table.

In: the `terms` of a batch and a `GramIndex` of the texts to find. Out: hits as (document, first word, gram).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from curation.kernels.text_batch import I64, U8
from curation.kernels.words import U64, WordTable, finish

# Odd multiplier of the rolling polynomial: 2**64 / golden ratio, rounded to odd.
BASE = np.uint64(0x9E3779B97F4A7C15)
FILTER_BITS = 24  # 2 MiB of bits in front of the table: a miss costs one cached load for up to a million n-grams


@dataclass(frozen=True)
class GramIndex:
    """The n-grams to find. Gram g has hash `keys[g]`; `slots` holds g + 1, or 0 where the table is empty."""

    lengths: I64  # the different n, ascending
    keys: U64
    slots: I64
    bits: U8


@dataclass(frozen=True)
class Hits:
    """Parallel arrays, ordered by n, document and word."""

    documents: I64
    words: I64  # index into the word table
    lengths: I64  # n
    grams: I64


def gram_hashes(table: WordTable, n: int) -> tuple[U64, I64]:
    """Hashes of every n-gram inside one document of `table`, and the document of each."""
    counts = np.maximum(np.diff(table.doc_words) - n + 1, 0)
    out = np.empty(int(counts.sum()), np.uint64)
    _hashes(table.hashes, table.doc_words, n, out)
    return out, np.repeat(np.arange(len(counts)), counts)


def gram_index(keys: U64, lengths: I64) -> GramIndex:
    """An index of distinct `keys`, hashes of n-grams of the given `lengths`."""
    size = 16
    while size < 2 * len(keys):
        size *= 2
    slots = np.zeros(size, np.int64)
    bits = np.zeros(1 << (FILTER_BITS - 3), np.uint8)
    _fill(keys, slots, bits)
    return GramIndex(np.unique(lengths).astype(np.int64), keys, slots, bits)


def find_grams(table: WordTable, index: GramIndex) -> Hits:
    """Every place of `table` where an n-gram of `index` stands."""
    capacity = 1024
    while True:
        out = np.empty((4, capacity), np.int64)
        found = _find(table.hashes, table.doc_words, index.lengths, index.keys, index.slots, index.bits, out)
        if found <= capacity:
            return Hits(*out[:, :found])
        capacity = found


@njit(nogil=True, cache=True)
def _power(n: int) -> np.uint64:
    value = np.uint64(1)
    for _ in range(n):
        value *= BASE
    return value


@njit(nogil=True, cache=True)
def _hashes(words: U64, doc_words: I64, n: int, out: U64) -> None:
    top, k = _power(n), 0
    salt = np.uint64(n)
    for d in range(doc_words.shape[0] - 1):
        h = np.uint64(0)
        for w in range(doc_words[d], doc_words[d + 1]):
            h = h * BASE + words[w]
            if w - doc_words[d] >= n:
                h -= top * words[w - n]
            if w - doc_words[d] >= n - 1:
                out[k] = finish(h ^ salt)
                k += 1


@njit(nogil=True, cache=True)
def _fill(keys: U64, slots: I64, bits: U8) -> None:
    mask = np.uint64(slots.shape[0] - 1)
    for g in range(keys.shape[0]):
        key = keys[g]
        slot = key & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = g + 1
        bit = key >> np.uint64(64 - FILTER_BITS)
        bits[bit >> np.uint64(3)] |= np.uint8(1) << np.uint8(bit & np.uint64(7))


@njit(nogil=True, cache=True)
def _find(words: U64, doc_words: I64, lengths: I64, keys: U64, slots: I64, bits: U8, out: I64) -> int:
    mask = np.uint64(slots.shape[0] - 1)
    found = 0
    for n in lengths:
        top, salt = _power(n), np.uint64(n)
        for d in range(doc_words.shape[0] - 1):
            first = doc_words[d]
            h = np.uint64(0)
            for w in range(first, doc_words[d + 1]):
                h = h * BASE + words[w]
                if w - first >= n:
                    h -= top * words[w - n]
                if w - first < n - 1:
                    continue
                key = finish(h ^ salt)
                bit = key >> np.uint64(64 - FILTER_BITS)
                if not (bits[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7))) & 1:
                    continue
                slot = key & mask
                while slots[slot] != 0 and keys[slots[slot] - 1] != key:
                    slot = (slot + np.uint64(1)) & mask
                if slots[slot] != 0:
                    if found < out.shape[1]:
                        out[0, found], out[1, found], out[2, found], out[3, found] = d, w - n + 1, n, slots[slot] - 1
                    found += 1
    return found
