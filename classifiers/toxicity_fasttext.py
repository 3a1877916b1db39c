"""The first stage of the toxicity cascade: the shipped fastText model, read once, scored over prefix sums.

In: tokens and windows. Out: one logit per window, exactly what fastText would say of the window's tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from numba import njit

from classifiers.calibration import Calibration
from classifiers.fasttext_file import EOS, LinearModel, read_linear_model
from classifiers.tokens import Tokens
from classifiers.windows import Windows

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
POSITIVE = "__label__toxic"
NEGATIVE = "__label__clean"
NGRAM_FACTOR = 116049371  # fastText Dictionary::addWordNgrams


class FastTextToxicity:
    """Logits of windows under one two-label fastText model with words and bigrams."""

    def __init__(self, path: Path, calibration: Calibration) -> None:
        """Raises ConfigError: the file is no such model."""
        self.path = path
        self.calibration = calibration
        model = read_linear_model(path, POSITIVE)
        self._ngrams = model.word_ngrams
        self._values = model.values
        self._buckets = _bucket_values(model)
        self._keys, self._slots = _word_table(model.words)
        self._eos_value = float(model.values[model.words.index(EOS)]) if EOS in model.words else 0.0
        self._eos_known = EOS in model.words
        self._eos_hash = np.uint32(_fnv(np.frombuffer(EOS.encode(), np.uint8), 0, len(EOS)))

    def sums(self, tokens: Tokens) -> tuple[F64, I64, F64, U32]:
        """Prefix sums over the tokens: word values, known words, bigram values; and the token hashes."""
        sums: tuple[F64, I64, F64, U32] = _sums(
            tokens.data, tokens.offsets, self._keys, self._slots, self._values, self._buckets, self._ngrams
        )
        return sums

    def logits(self, tokens: Tokens, windows: Windows) -> F64:
        """Log-odds of "toxic" per window, shape (len(windows),)."""
        words, known, pairs, hashes = self.sums(tokens)
        return np.asarray(
            _logits(
                windows.first, windows.last, words, known, pairs, hashes, self._buckets, self._ngrams,
                self._eos_hash, self._eos_value, self._eos_known,
            )
        )  # fmt: skip

    def probabilities(self, tokens: Tokens, windows: Windows) -> F64:
        """Calibrated probability of "toxic" per window."""
        return self.calibration.apply(self.logits(tokens, windows))


I64 = npt.NDArray[np.int64]


def _bucket_values(model: LinearModel) -> F32:
    """One value per hash bucket; 0 and a NaN mark: NaN says that the bucket was pruned and does not count."""
    tail = model.values[len(model.words) :]
    if model.kept is None:
        return tail
    values = np.full(len(model.kept), np.nan, np.float32)
    used = model.kept >= 0
    values[used] = tail[model.kept[used]]
    return values


def _word_table(words: tuple[str, ...]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Open-addressed table from 64-bit word hash to word number, at most a quarter full. 0 marks a free slot."""
    joined = np.frombuffer("".join(words).encode(), np.uint8)
    cuts = np.r_[0, np.cumsum([len(word.encode()) for word in words])].astype(np.int64)
    size = 1 << (4 * len(words)).bit_length()
    return _fill(joined, cuts, size)  # type: ignore[no-any-return]


@njit(nogil=True, cache=True)
def _fnv(data, start, stop):  # type: ignore[no-untyped-def]
    """FNV-1a, 32 bit, with fastText's sign extension of bytes (Dictionary::hash)."""
    h = np.uint32(2166136261)
    for k in range(start, stop):
        byte = np.uint32(data[k])
        if byte >= 128:
            byte |= np.uint32(0xFFFFFF00)
        h = np.uint32((h ^ byte) * np.uint32(16777619))
    return h


@njit(nogil=True, cache=True)
def _key(data, start, stop):  # type: ignore[no-untyped-def]
    """FNV-1a, 64 bit, never 0: names a word with a chance of confusion of 2^-64 a pair."""
    h = np.uint64(14695981039346656037)
    for k in range(start, stop):
        h = (h ^ np.uint64(data[k])) * np.uint64(1099511628211)
    return h | np.uint64(1)


@njit(nogil=True, cache=True)
def _fill(joined, cuts, size):  # type: ignore[no-untyped-def]
    keys = np.zeros(size, np.uint64)
    slots = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    for word in range(len(cuts) - 1):
        key = _key(joined, cuts[word], cuts[word + 1])
        slot = (key >> np.uint64(17)) & mask
        while keys[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        keys[slot], slots[slot] = key, word
    return keys, slots


@njit(nogil=True, cache=True)
def _bucket(left, right, buckets):  # type: ignore[no-untyped-def]
    """fastText's bucket of the bigram: hashes are int32 there, so they are sign-extended before the product."""
    h = np.uint64(np.int64(np.int32(left))) * np.uint64(116049371) + np.uint64(np.int64(np.int32(right)))
    return h % np.uint64(buckets)


@njit(nogil=True, cache=True)
def _sums(data, offsets, keys, slots, values, buckets, ngrams):  # type: ignore[no-untyped-def]
    n = len(offsets) - 1
    words = np.zeros(n + 1, np.float64)
    known = np.zeros(n + 1, np.int64)
    pairs = np.zeros(n + 1, np.float64)  # pairs[k + 1] - pairs[k]: bigram of token k - 1 and k
    hashes = np.empty(n, np.uint32)
    mask = np.uint64(len(keys) - 1)
    for k in range(n):
        hashes[k] = _fnv(data, offsets[k], offsets[k + 1])
        key = _key(data, offsets[k], offsets[k + 1])
        slot = (key >> np.uint64(17)) & mask
        while keys[slot] != 0 and keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        word = slots[slot] if keys[slot] == key else -1
        words[k + 1] = words[k] + (values[word] if word >= 0 else 0.0)
        known[k + 1] = known[k] + (word >= 0)
        value = 0.0
        if ngrams > 1 and k > 0:
            value = buckets[_bucket(hashes[k - 1], hashes[k], len(buckets))]
        pairs[k + 1] = pairs[k] + value
    return words, known, pairs, hashes


@njit(nogil=True, cache=True)
def _logits(first, last, words, known, pairs, hashes, buckets, ngrams, eos_hash, eos_value, eos_known):  # type: ignore[no-untyped-def]
    out = np.zeros(len(first), np.float64)
    for w in range(len(first)):
        a, b = first[w], last[w]
        total = words[b] - words[a] + eos_value
        count = known[b] - known[a] + eos_known
        if ngrams > 1 and b > a:
            total += pairs[b] - pairs[a + 1] + buckets[_bucket(hashes[b - 1], eos_hash, len(buckets))]
            count += b - a
        out[w] = total / max(count, 1)
    return out
