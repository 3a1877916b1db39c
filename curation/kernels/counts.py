"""Counts over the tables of words and lines that the Gopher and FineWeb rules divide.

In: tables of `words.py` and `lines.py`. Out: one array per document and count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.lines import LineTable
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode
from curation.kernels.words import HAS_ALPHA, HAS_NON_SYMBOL, I32, U64, WordTable, hash_of

F64 = npt.NDArray[np.float64]
_SPACE = unicode_tables.SPACE


def word_counts(table: WordTable, wanted: Sequence[str]) -> I64:
    """Per document: non-symbol words, their characters, words with a letter, distinct `wanted`, all `wanted`.

    Shape (documents, 5). `wanted` (at most 64 words) is matched exactly, upper and lower case apart.
    """
    hashes = np.array([hash_of(word) for word in wanted], np.uint64)
    lengths = np.zeros(64, np.bool_)
    for word in wanted:
        lengths[min(len(word), 63)] = True
    return np.asarray(_word_counts(table.hashes, table.chars, table.flags, table.doc_words, hashes, lengths), np.int64)


def median_word_chars(table: WordTable) -> F64:
    """The median length of each document's words, 0 without words, shape (documents,)."""
    return np.asarray(_median_word_chars(table.chars, table.doc_words), np.float64)


def marked_lines(batch: TextBatch, table: LineTable, bullets: str, three_dots: bool) -> I64:
    """Lines of each document that start with one of `bullets`, and lines that end in an ellipsis; (documents, 2).

    Args:
        three_dots: `...` counts as an ellipsis too, not only `…`.
    """
    points = np.array([ord(b) for b in bullets], np.int64)
    return np.asarray(
        _marked_lines(batch.data, table.stripped_starts, table.stripped_ends, table.doc_lines, points, three_dots),
        np.int64,
    )


def line_ends_with(batch: TextBatch, table: LineTable, points: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether the last character of each line, white space included, is one of `points` (sorted code points)."""
    return np.asarray(_line_ends_with(batch.data, table.starts, table.ends, points), np.bool_)


@njit(nogil=True, cache=True)
def _word_counts(
    hashes: U64, chars: I32, flags: U8, doc_words: I64, wanted: U64, lengths: npt.NDArray[np.bool_]
) -> I64:
    out = np.zeros((doc_words.shape[0] - 1, 5), np.int64)
    for d in range(out.shape[0]):
        non_symbol = length = alpha = total = 0
        seen = np.uint64(0)
        for w in range(doc_words[d], doc_words[d + 1]):
            if flags[w] & HAS_NON_SYMBOL:
                non_symbol += 1
                length += chars[w]
            alpha += (flags[w] & HAS_ALPHA) != 0
            if lengths[min(chars[w], 63)]:
                for k in range(wanted.shape[0]):
                    if hashes[w] == wanted[k]:
                        total += 1
                        seen |= np.uint64(1) << np.uint64(k)
        distinct = 0
        for k in range(wanted.shape[0]):
            distinct += (seen >> np.uint64(k)) & np.uint64(1) != np.uint64(0)
        out[d, 0], out[d, 1], out[d, 2], out[d, 3], out[d, 4] = non_symbol, length, alpha, distinct, total
    return out


@njit(nogil=True, cache=True)
def _median_word_chars(chars: I32, doc_words: I64) -> F64:
    out = np.zeros(doc_words.shape[0] - 1, np.float64)
    for d in range(out.shape[0]):
        if doc_words[d + 1] > doc_words[d]:
            out[d] = np.median(chars[doc_words[d] : doc_words[d + 1]])
    return out


@njit(nogil=True, cache=True)
def _marked_lines(data: U8, starts: I64, ends: I64, doc_lines: I64, bullets: I64, three_dots: bool) -> I64:
    out = np.zeros((doc_lines.shape[0] - 1, 2), np.int64)
    for d in range(out.shape[0]):
        for line in range(doc_lines[d], doc_lines[d + 1]):
            i, end = starts[line], ends[line]
            if i == end:
                continue
            point, _ = decode(data, i)
            for k in range(bullets.shape[0]):
                out[d, 0] += point == bullets[k]
            if end - i >= 3:
                a, b, c = data[end - 3], data[end - 2], data[end - 1]
                if (a == 0xE2 and b == 0x80 and c == 0xA6) or (three_dots and a == 46 and b == 46 and c == 46):
                    out[d, 1] += 1
    return out


@njit(nogil=True, cache=True)
def _line_ends_with(data: U8, starts: I64, ends: I64, points: I64) -> npt.NDArray[np.bool_]:
    out = np.zeros(starts.shape[0], np.bool_)
    for line in range(starts.shape[0]):
        i = ends[line] - 1
        if i < starts[line]:
            continue
        while (data[i] & 0xC0) == 0x80:
            i -= 1
        point, _ = decode(data, i)
        at = np.searchsorted(points, point)
        out[line] = at < points.shape[0] and points[at] == point
    return out
