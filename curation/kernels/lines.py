"""One table of the lines of a batch, and per-document counts of symbols.

In: a `TextBatch`. Out: a `LineTable`, made once per batch and definition of a line, read by every line rule.
`newline` lines are `text.split("\\n")`; `unicode` lines are `text.splitlines()`, which also breaks at \\r, \\v, \\f,
U+001C–U+001E, U+0085, U+2028 and U+2029 and gives no empty last line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode
from curation.kernels.words import I32, U64

LinesOf = Literal["newline", "unicode"]
_SPACE = unicode_tables.SPACE
MAX_PHRASES = 64  # one bit of a uint64 each


@dataclass(frozen=True)
class LineTable:
    """The lines of a batch in reading order; those of document d are `doc_lines[d]:doc_lines[d + 1]`."""

    starts: I64  # byte in the batch's buffer
    ends: I64  # byte after the line, before its break
    first_char: I32  # code point in the document's text
    chars: I32  # length in code points, without the break
    break_chars: U8  # code points of the break: 0 for a last line without one, 2 for \r\n
    stripped_starts: I64  # the line without white space around it
    stripped_ends: I64
    words: I32  # white-space words
    longest_word: I32  # in code points
    doc_lines: I64  # shape (documents + 1,)

    def __len__(self) -> int:
        return len(self.starts)

    def documents(self) -> I64:
        """The document of each line."""
        return np.repeat(np.arange(len(self.doc_lines) - 1), np.diff(self.doc_lines))

    def per_document(self, values: npt.NDArray[np.generic]) -> I64:
        """The sum of `values` (one a line) over the lines of each document."""
        sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.asarray(sums[self.doc_lines[1:]] - sums[self.doc_lines[:-1]], np.int64)


def lines(batch: TextBatch, of: LinesOf = "newline") -> LineTable:
    """The lines of `batch`, found once however many rules ask."""
    return batch.shared(("lines", of), lambda b: _table(b, of == "unicode"))


def symbol_counts(batch: TextBatch) -> npt.NDArray[np.int64]:
    """Per document: `#`, `...` (not overlapping), `…`, `\\n`, `{`; shape (documents, 5)."""
    return batch.shared("symbol_counts", lambda b: _symbol_counts(b.data, b.offsets))


def phrases_in_lines(batch: TextBatch, table: LineTable, phrases: Sequence[str]) -> U64:
    """Which of `phrases` each line contains: bit k is set for `phrases[k]`.

    Args:
        phrases: at most 64, lower case, ASCII; found whatever the case of ASCII letters in the line.
    """
    if len(phrases) > MAX_PHRASES or not all(p and p.isascii() and p == p.lower() for p in phrases):
        raise ValueError(f"phrases must be at most {MAX_PHRASES}, lower case, ASCII and not empty: {phrases}")
    encoded = [np.frombuffer(p.encode(), np.uint8) for p in phrases]
    bounds = np.concatenate([[0], np.cumsum([len(p) for p in encoded], dtype=np.int64)]).astype(np.int64)
    joined = np.concatenate(encoded) if encoded else np.zeros(0, np.uint8)
    # Which phrases may begin with a byte, and which have it second: nearly every place is done with two loads.
    begins = np.zeros((2, 256), np.uint64)
    for number, phrase in enumerate(encoded):
        bit = np.uint64(1 << number)
        for place in range(2):
            if place >= len(phrase):
                begins[place] |= bit
                continue
            byte = int(phrase[place])
            begins[place, byte] |= bit
            if 97 <= byte <= 122:
                begins[place, byte - 32] |= bit
    return np.asarray(_phrases_in_lines(batch.data, table.starts, table.ends, joined, bounds, begins), np.uint64)


def _table(batch: TextBatch, every_break: bool) -> LineTable:
    bound = _count_breaks(batch.data, batch.offsets) + len(batch)
    starts, ends, stripped_starts, stripped_ends = (np.empty(bound, np.int64) for _ in range(4))
    first_char, chars, words, longest = (np.empty(bound, np.int32) for _ in range(4))
    breaks = np.empty(bound, np.uint8)
    doc_lines = np.zeros(len(batch) + 1, np.int64)
    n = _scan_lines(
        batch.data,
        batch.offsets,
        unicode_tables.classes(),
        every_break,
        starts,
        ends,
        stripped_starts,
        stripped_ends,
        first_char,
        chars,
        words,
        longest,
        breaks,
        doc_lines,
    )
    return LineTable(
        starts[:n],
        ends[:n],
        first_char[:n],
        chars[:n],
        breaks[:n],
        stripped_starts[:n],
        stripped_ends[:n],
        words[:n],
        longest[:n],
        doc_lines,
    )


@njit(nogil=True, cache=True)
def _count_breaks(data: U8, offsets: I64) -> int:
    """An upper bound of the line breaks of every kind."""
    n = 0
    for i in range(offsets[0], offsets[-1]):
        b = data[i]
        if b < 0x20:
            n += (10 <= b <= 13) | (0x1C <= b <= 0x1E)
        else:
            n += (b == 0x85) | (b == 0xA8) | (b == 0xA9)
    return n


@njit(nogil=True, cache=True)
def _is_break(point: int | np.int64, every_break: bool) -> bool:
    if point == 10 or not every_break:
        return bool(point == 10)
    if point < 0x85:
        return bool((10 <= point <= 13) or (0x1C <= point <= 0x1E))
    return bool(point == 0x85 or point == 0x2028 or point == 0x2029)


@njit(nogil=True, cache=True)
def _scan_lines(
    data: U8,
    offsets: I64,
    classes: U8,
    every_break: bool,
    starts: I64,
    ends: I64,
    stripped_starts: I64,
    stripped_ends: I64,
    first_char: I32,
    chars: I32,
    words: I32,
    longest: I32,
    breaks: U8,
    doc_lines: I64,
) -> int:
    n = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        char = 0  # code points of the document read so far
        more = not every_break or i < stop  # splitlines gives no empty last line, split does
        while more:
            starts[n], first_char[n] = i, char
            strip_from, strip_to = i, i
            count, word, longest_word, is_blank = 0, 0, 0, True
            break_chars = 0
            while i < stop:
                point, width = decode(data, i)
                if _is_break(point, every_break):
                    break_chars = 1
                    break
                if classes[point] & _SPACE:
                    word = 0
                else:
                    if is_blank:
                        strip_from, is_blank = i, False
                    if word == 0:
                        count += 1
                    word += 1
                    longest_word = max(longest_word, word)
                    strip_to = i + width
                i += width
                char += 1
            ends[n], chars[n] = i, char - first_char[n]
            stripped_starts[n], stripped_ends[n] = strip_from, (strip_from if is_blank else strip_to)
            words[n], longest[n] = count, longest_word
            more = False
            if break_chars:
                carriage = data[i] == 13
                _, width = decode(data, i)
                i += width
                if carriage and every_break and i < stop and data[i] == 10:
                    i += 1
                    break_chars = 2
                char += break_chars
                more = not every_break or i < stop
            breaks[n] = break_chars
            n += 1
        doc_lines[d + 1] = n
    return n


@njit(nogil=True, cache=True)
def _symbol_counts(data: U8, offsets: I64) -> I64:
    counts = np.zeros((offsets.shape[0] - 1, 5), np.int64)
    for d in range(counts.shape[0]):
        hashes = dots = ellipses = newlines = braces = 0
        run = 0
        for i in range(offsets[d], offsets[d + 1]):
            b = data[i]
            if b == 46:
                run += 1
                if run == 3:
                    dots += 1
                    run = 0
                continue
            run = 0
            if b == 35:
                hashes += 1
            elif b == 10:
                newlines += 1
            elif b == 123:
                braces += 1
            elif b == 0xA6 and i - offsets[d] >= 2 and data[i - 1] == 0x80 and data[i - 2] == 0xE2:
                ellipses += 1
        counts[d, 0], counts[d, 1], counts[d, 2], counts[d, 3], counts[d, 4] = hashes, dots, ellipses, newlines, braces
    return counts


@njit(nogil=True, cache=True)
def _phrases_in_lines(data: U8, starts: I64, ends: I64, joined: U8, bounds: I64, begins: U64) -> U64:
    found = np.zeros(starts.shape[0], np.uint64)
    first, second = begins[0], begins[1]
    nothing, one = np.uint64(0), np.uint64(1)
    for line in range(starts.shape[0]):
        bits, end = nothing, ends[line]
        for i in range(starts[line], end):
            possible = first[data[i]]
            if possible == nothing:
                continue
            possible &= second[data[i + 1] if i + 1 < end else np.uint8(0)]
            p = 0
            while possible != nothing:
                if possible & one and i + bounds[p + 1] - bounds[p] <= end:
                    k = bounds[p]
                    while k < bounds[p + 1]:
                        b = data[i + k - bounds[p]]
                        if 65 <= b <= 90:
                            b += 32
                        if b != joined[k]:
                            break
                        k += 1
                    if k == bounds[p + 1]:
                        bits |= one << np.uint64(p)
                possible >>= one
                p += 1
        found[line] = bits
    return found
