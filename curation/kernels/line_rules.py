"""What is wrong with each line, by the rules of C4 and of RefinedWeb.

In: a `TextBatch` and its `LineTable`. Out: one verdict a line (0: nothing), and what C4 counts in the lines it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels import unicode_tables
from curation.kernels.lines import LineTable
from curation.kernels.text_batch import I64, U8, TextBatch
from curation.kernels.utf8 import decode
from curation.kernels.words import I32, U64, hash_of

C4_LABELS = ("", "long_word", "no_end_mark", "too_few_words", "javascript", "policy")
REFINEDWEB_LABELS = ("", "uppercase", "only_numbers", "counter", "one_word", "boilerplate")
Bools = npt.NDArray[np.bool_]

# Words that a full stop follows inside a sentence, lower case; our own short list for counting sentences.
ABBREVIATIONS = (
    "mr mrs ms dr prof st vs etc inc ltd co corp jr sr no fig vol pp cf al rev gen sen rep hon capt col sgt lt mt ft "
    "approx dept est govt jan feb mar apr jun jul aug sep sept oct nov dec eg ie"
)
COUNTED_THINGS = (
    "like likes share shares comment comments retweet retweets repost reposts quote quotes bookmark bookmarks upvote "
    "upvotes downvote downvotes download downloads view views follower followers"
)

_SPACE = unicode_tables.SPACE
_ALPHA = unicode_tables.ALPHA
_UPPER = unicode_tables.UPPER
_DIGIT = unicode_tables.DIGIT
_WORD = unicode_tables.WORD


@dataclass(frozen=True)
class C4Lines:
    """Per line: index into C4_LABELS, sentences, characters; and where citations stand."""

    labels: U8
    sentences: I32
    citation_lines: I64  # line of each citation
    citation_starts: I64  # byte
    citation_ends: I64


def c4_lines(
    batch: TextBatch,
    table: LineTable,
    end_marks: str | None,
    min_words: int,
    max_word_chars: int,
    citations: bool,
) -> C4Lines:
    """C4's line rules up to the phrases, which `phrases_in_lines` finds.

    Args:
        end_marks: ASCII characters a line must end with (and not with `...`); None: any end will do.
        citations: take `[1]`, `[]`, `[edit]` and `[citation needed]` out before the end and the words are looked at.
    """
    marks = np.zeros(128, np.bool_)
    for mark in end_marks or "":
        marks[ord(mark)] = True
    found = _citations(batch.data, table.starts, table.ends) if citations else (np.zeros(0, np.int64),) * 3
    abbreviations = np.sort(np.array([hash_of(word) for word in ABBREVIATIONS.split()], np.uint64))
    labels, sentences = _c4_lines(
        batch.data,
        table.stripped_starts,
        table.stripped_ends,
        table.longest_word,
        unicode_tables.classes(),
        unicode_tables.lower(),
        *found,
        end_marks is not None,
        marks,
        min_words,
        max_word_chars,
        abbreviations,
    )
    return C4Lines(labels, sentences, *found)


def refinedweb_lines(
    batch: TextBatch,
    table: LineTable,
    max_uppercase: float,
    max_digits: float,
    min_words: int,
    boilerplate: U64,
    max_boilerplate_words: int,
) -> U8:
    """Index into REFINEDWEB_LABELS for each line; blank lines are never wrong.

    Args:
        boilerplate: not 0 for a line that has one of the boilerplate phrases in its place.
        max_boilerplate_words: in longer lines a boilerplate phrase is part of the text.
    """
    counted = np.sort(np.array([hash_of(word) for word in COUNTED_THINGS.split()], np.uint64))
    return np.asarray(
        _refinedweb_lines(
            batch.data,
            table.stripped_starts,
            table.stripped_ends,
            table.words,
            unicode_tables.classes(),
            unicode_tables.lower(),
            max_uppercase,
            max_digits,
            min_words,
            boilerplate,
            max_boilerplate_words,
            counted,
        ),
        np.uint8,
    )


def lines_with_phrase_at(batch: TextBatch, table: LineTable, prefixes: Sequence[str], suffixes: Sequence[str]) -> Bools:
    """Lines that, stripped, begin with one of `prefixes` or end with one of `suffixes`: lower-case ASCII, any case."""
    found = np.zeros(len(table), np.bool_)
    for phrase, at_end in [(p, False) for p in prefixes] + [(s, True) for s in suffixes]:
        encoded = np.frombuffer(phrase.encode("ascii"), np.uint8)
        found |= _phrase_at(batch.data, table.stripped_starts, table.stripped_ends, encoded, at_end)
    return found


@njit(nogil=True, cache=True)
def _phrase_at(data: U8, starts: I64, ends: I64, phrase: U8, at_end: bool) -> Bools:
    found = np.zeros(starts.shape[0], np.bool_)
    length = phrase.shape[0]
    for line in range(starts.shape[0]):
        if ends[line] - starts[line] < length:
            continue
        at = ends[line] - length if at_end else starts[line]
        same = True
        for k in range(length):
            b = data[at + k]
            if 65 <= b <= 90:
                b += 32
            if b != phrase[k]:
                same = False
                break
        found[line] = same
    return found


@njit(nogil=True, cache=True)
def _citation_end(data: U8, i: int, stop: int) -> int:
    """The end of the citation that starts at byte `i` with `[`, or `i`."""
    j = i + 1
    while j < stop and 48 <= data[j] <= 57:
        j += 1
    if j < stop and data[j] == 93:
        return j + 1
    for text in (b"[edit]", b"[citation needed]"):
        k = 0
        while k < len(text) and i + k < stop and data[i + k] == text[k]:
            k += 1
        if k == len(text):
            return i + k
    return i


@njit(nogil=True, cache=True)
def _citations(data: U8, starts: I64, ends: I64) -> tuple[I64, I64, I64]:
    count = 0
    for fill in range(2):  # count, then fill
        if fill:
            at_line, at_start, at_end = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
        else:
            at_line, at_start, at_end = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        count = 0
        for line in range(starts.shape[0]):
            i = starts[line]
            while i < ends[line]:
                if data[i] == 91:
                    end = _citation_end(data, i, ends[line])
                    if end > i:
                        if fill:
                            at_line[count], at_start[count], at_end[count] = line, i, end
                        count += 1
                        i = end
                        continue
                i += 1
    return at_line, at_start, at_end


@njit(nogil=True, cache=True)
def _sentence_ends_here(
    data: U8,
    i: int | np.int64,
    stop: int | np.int64,
    classes: U8,
    lower: I32,
    abbreviations: U64,
    start: int | np.int64,
) -> bool:
    """Whether the end mark at byte `i` closes a sentence.

    It does when only closing marks stand between it and white space or the end of the line, the next letter is not
    lower case, and, for a full stop, it follows neither a single letter nor an abbreviation.
    """
    j = i + 1
    while j < stop and (data[j] == 34 or data[j] == 39 or data[j] == 41 or data[j] == 93):
        j += 1
    if j + 2 < stop and data[j] == 0xE2 and data[j + 1] == 0x80 and (data[j + 2] == 0x9D or data[j + 2] == 0x99):
        j += 3  # ” or ’
    if j == stop:
        return True
    point, width = decode(data, j)
    if not classes[point] & _SPACE:
        return False
    while j < stop:
        point, width = decode(data, j)
        if not classes[point] & _SPACE:
            break
        j += width
    if classes[point] & _ALPHA and not classes[point] & _UPPER and lower[point] == point and point < 0x250:
        return False
    if data[i] != 46:
        return True
    k = i
    while k > start and (65 <= data[k - 1] <= 90 or 97 <= data[k - 1] <= 122):
        k -= 1
    if i - k == 1:
        return False
    key = _lower_hash(data, k, i, lower)
    at = np.searchsorted(abbreviations, key)
    return not (at < abbreviations.shape[0] and abbreviations[at] == key)


@njit(nogil=True, cache=True)
def _lower_hash(data: U8, start: int | np.int64, stop: int | np.int64, lower: I32) -> np.uint64:
    """The hash of ASCII letters `data[start:stop]` in lower case: `hash_of` of that word."""
    h = np.uint64(0xCBF29CE484222325)
    for i in range(start, stop):
        h = (h ^ np.uint64(lower[data[i]])) * np.uint64(0x100000001B3)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@njit(nogil=True, cache=True)
def _shape(
    data: U8, start: int | np.int64, stop: int | np.int64, classes: U8, lower: I32, abbreviations: U64
) -> tuple[int, int]:
    """Words and sentences between two bytes. What follows the last end mark is a sentence if it has a word."""
    words, inside, is_open, sentences = 0, False, False, 0
    i = start
    while i < stop:
        point, width = decode(data, i)
        if classes[point] & _SPACE:
            inside = False
        else:
            words += not inside
            inside = True
        if classes[point] & _WORD:
            is_open = True
        elif (
            is_open
            and (point == 46 or point == 63 or point == 33)
            and _sentence_ends_here(data, i, stop, classes, lower, abbreviations, start)
        ):
            sentences += 1
            is_open = False
        i += width
    return words, sentences + is_open


@njit(nogil=True, cache=True)
def _c4_lines(
    data: U8,
    starts: I64,
    ends: I64,
    longest_word: I32,
    classes: U8,
    lower: I32,
    citation_lines: I64,
    citation_starts: I64,
    citation_ends: I64,
    check_end: bool,
    marks: Bools,
    min_words: int,
    max_word_chars: int,
    abbreviations: U64,
) -> tuple[U8, I32]:
    labels = np.zeros(starts.shape[0], np.uint8)
    sentences = np.zeros(starts.shape[0], np.int32)
    c, n_citations = 0, citation_lines.shape[0]
    for line in range(starts.shape[0]):
        text, start, stop = data, starts[line], ends[line]
        if c < n_citations and citation_lines[c] == line:  # rare: look at a copy without them
            text, size, at = np.empty(stop - start, np.uint8), 0, start
            while c < n_citations and citation_lines[c] == line:
                for i in range(at, citation_starts[c]):
                    text[size] = data[i]
                    size += 1
                at = citation_ends[c]
                c += 1
            for i in range(at, stop):
                text[size] = data[i]
                size += 1
            start, stop = np.int64(0), np.int64(size)
        words, sentences[line] = _shape(text, start, stop, classes, lower, abbreviations)
        last = text[stop - 1] if stop > start else np.uint8(0)
        dots = stop - start >= 3 and text[stop - 1] == 46 and text[stop - 2] == 46 and text[stop - 3] == 46
        if longest_word[line] > max_word_chars:
            labels[line] = 1
        elif check_end and (last >= 128 or not marks[last] or dots):
            labels[line] = 2
        elif words < min_words:
            labels[line] = 3
    return labels, sentences


@njit(nogil=True, cache=True)
def _is_counter(data: U8, i: int, stop: int, classes: U8, lower: I32, counted: U64) -> bool:
    """Whether the line is a number and what it counts: `12`, `1,234` or `3.4K` and `likes`, and no other word."""
    while i < stop:
        point, width = decode(data, i)
        if classes[point] & _WORD:
            break
        i += width
    if i == stop or not 48 <= data[i] <= 57:
        return False
    while i < stop and (48 <= data[i] <= 57 or data[i] == 44 or data[i] == 46):
        i += 1
    if i < stop and (data[i] | 32) in (107, 109, 98):  # K, M, B
        i += 1
    spaces = 0
    while i < stop and (data[i] == 32 or data[i] == 9):
        i += 1
        spaces += 1
    if spaces == 0:
        return False
    begin = i
    while i < stop and 97 <= (data[i] | 32) <= 122:
        i += 1
    key = _lower_hash(data, begin, i, lower)
    at = np.searchsorted(counted, key)
    if not (at < counted.shape[0] and counted[at] == key):
        return False
    while i < stop:
        point, width = decode(data, i)
        if classes[point] & _WORD:
            return False
        i += width
    return True


@njit(nogil=True, cache=True)
def _refinedweb_lines(
    data: U8,
    starts: I64,
    ends: I64,
    words: I32,
    classes: U8,
    lower: I32,
    max_uppercase: float,
    max_digits: float,
    min_words: int,
    boilerplate: U64,
    max_boilerplate_words: int,
    counted: U64,
) -> U8:
    labels = np.zeros(starts.shape[0], np.uint8)
    for line in range(starts.shape[0]):
        if words[line] == 0:
            continue
        i, stop = starts[line], ends[line]
        chars = upper = digits = 0
        while i < stop:
            point, width = decode(data, i)
            bits = classes[point]
            chars += 1
            upper += (bits & _UPPER) != 0
            digits += (bits & _DIGIT) != 0
            i += width
        if upper / chars > max_uppercase:
            labels[line] = 1
        elif digits / chars > max_digits:
            labels[line] = 2
        elif words[line] <= 8 and _is_counter(data, starts[line], stop, classes, lower, counted):
            labels[line] = 3
        elif words[line] < min_words:
            labels[line] = 4
        elif boilerplate[line] != 0 and words[line] <= max_boilerplate_words:
            labels[line] = 5
    return labels
