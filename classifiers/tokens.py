"""Texts → tokens of the linear models: one compiled scan, the same for training and for scoring.

1. Words are runs of letters, digits and inner apostrophes, lower-cased; signs inside a word (`f*ck`, `a$$`) stay in it.
2. `@name` becomes `@user`, a link becomes `<url>`, an HTML entity is skipped: names and addresses must not be learnt.
3. `!`, `?`, `"`, `*` and every symbol outside the Latin punctuation (emoji) are tokens; other punctuation is dropped.
Every token knows where it stands (code points) and which break stood before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.kernels.text_batch import TextBatch
from curation.kernels.unicode_tables import MARK, SPACE, WORD, classes, lower

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

NO_BREAK, SENTENCE, LINE, PARAGRAPH = 0, 1, 2, 3
MAX_WORD = 40  # bytes of a folded token that count; longer ones are cut, so hashes of junk stay cheap
USER = np.frombuffer(b"@user", np.uint8)
URL = np.frombuffer(b"<url>", np.uint8)


@dataclass(frozen=True)
class Tokens:
    """Tokens of a batch. Token k of row i: bounds[i] <= k < bounds[i + 1]."""

    bounds: I64  # (rows + 1,)
    start: I32  # code points, (n,)
    end: I32
    breaks: U8  # strongest break before the token: NO_BREAK, SENTENCE, LINE, PARAGRAPH
    data: U8  # folded UTF-8 of all tokens
    offsets: I64  # (n + 1,) into `data`

    def words(self, row: int) -> list[str]:
        """The folded tokens of one row."""
        cuts = self.offsets[self.bounds[row] : self.bounds[row + 1] + 1]
        return [self.data[a:b].tobytes().decode("utf-8", "ignore") for a, b in pairwise(cuts)]


def tokenize(texts: TextBatch) -> Tokens:
    """All tokens of `texts`, made once per batch."""
    return texts.shared("classifiers.tokens", _tokenize)


def _tokenize(texts: TextBatch) -> Tokens:
    return Tokens(*_scan(texts.data, texts.offsets, classes(), lower(), USER, URL))


@njit(nogil=True, cache=True)
def _point(data, i):  # type: ignore[no-untyped-def]
    """Code point at byte i and its length in bytes."""
    byte = data[i]
    if byte < 0x80:
        return np.int32(byte), 1
    if byte < 0xE0:
        return np.int32(((byte & 0x1F) << 6) | (data[i + 1] & 0x3F)), 2
    if byte < 0xF0:
        return np.int32(((byte & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F)), 3
    high = ((byte & 0x07) << 18) | ((data[i + 1] & 0x3F) << 12)
    return np.int32(high | ((data[i + 2] & 0x3F) << 6) | (data[i + 3] & 0x3F)), 4


@njit(nogil=True, cache=True)
def _put(out, at, point):  # type: ignore[no-untyped-def]
    """`point` as UTF-8 at out[at:]; the position after it."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at], out[at + 1] = 0xC0 | (point >> 6), 0x80 | (point & 0x3F)
        return at + 2
    if point < 0x10000:
        out[at], out[at + 1] = 0xE0 | (point >> 12), 0x80 | ((point >> 6) & 0x3F)
        out[at + 2] = 0x80 | (point & 0x3F)
        return at + 3
    out[at], out[at + 1] = 0xF0 | (point >> 18), 0x80 | ((point >> 12) & 0x3F)
    out[at + 2], out[at + 3] = 0x80 | ((point >> 6) & 0x3F), 0x80 | (point & 0x3F)
    return at + 4


@njit(nogil=True, cache=True)
def _is_url(data, i, stop):  # type: ignore[no-untyped-def]
    """Whether `http://`, `https://` or `www.` starts at byte i."""
    if i + 7 < stop and data[i] | 32 == 104 and data[i + 1] | 32 == 116 and data[i + 2] | 32 == 116:
        if data[i + 3] | 32 == 112:
            k = i + 4 + (data[i + 4] | 32 == 115)
            return data[k] == 58 and data[k + 1] == 47
        return False
    www = i + 4 < stop and data[i] | 32 == 119 and data[i + 1] | 32 == 119 and data[i + 2] | 32 == 119
    return www and data[i + 3] == 46


@njit(nogil=True, cache=True)
def _entity(data, i, stop):  # type: ignore[no-untyped-def]
    """Bytes of an HTML entity (`&gt;`, `&#39;`) at byte i, 0 when there is none."""
    k = i + 1
    while (
        k < stop and k < i + 9 and (48 <= data[k] <= 57 or 65 <= data[k] <= 90 or 97 <= data[k] <= 122 or data[k] == 35)
    ):
        k += 1
    return k + 1 - i if k > i + 2 and k < stop and data[k] == 59 else 0


@njit(nogil=True, cache=True)
def _joins(data, i, stop, bits):  # type: ignore[no-untyped-def]
    """Whether the sign at byte i stands inside a word: ' * @ $ ! % # followed by a letter, digit or another sign."""
    sign = data[i]
    if sign == 39:
        return i + 1 < stop and data[i + 1] < 0x80 and (bits[data[i + 1]] & WORD) != 0
    if sign != 42 and sign != 64 and sign != 36 and sign != 33:
        return False
    k = i
    while k < stop and (data[k] == 42 or data[k] == 64 or data[k] == 36 or data[k] == 33):
        k += 1
    return k < stop and data[k] < 0x80 and (bits[data[k]] & WORD) != 0


@njit(nogil=True, cache=True)
def _scan(data, offsets, bits, low, user, url):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    size = offsets[rows] - offsets[0]
    limit = size + 8  # a token has at least one byte; pages that are never touched cost nothing
    bounds = np.zeros(rows + 1, np.int64)
    starts = np.empty(limit, np.int32)
    ends = np.empty(limit, np.int32)
    breaks = np.empty(limit, np.uint8)
    out = np.empty(3 * size + 16, np.uint8)  # the longest growth is `@a`, 2 bytes, to `@user`, 5
    cuts = np.zeros(limit + 1, np.int64)
    n = 0
    at = 0
    for row in range(rows):
        i, stop = offsets[row], offsets[row + 1]
        cp = 0
        gap = PARAGRAPH
        newlines = 0
        while i < stop:
            point, width = _point(data, i)
            kind = bits[point]
            if kind & SPACE:
                if point == 10:
                    newlines += 1
                    gap = max(gap, PARAGRAPH if newlines > 1 else LINE)
                i += width
                cp += 1
                continue
            newlines = 0
            closes = point == 0x21 or point == 0x3F  # ! and ? end the sentence they stand in
            begin = at
            first = cp
            if point == 0x40 and i + 1 < stop and data[i + 1] < 0x80 and bits[data[i + 1]] & WORD:
                i += 1
                cp += 1
                while i < stop:
                    point, width = _point(data, i)
                    if not bits[point] & WORD:
                        break
                    i += width
                    cp += 1
                for k in range(len(user)):
                    out[at + k] = user[k]
                at += len(user)
            elif kind & WORD:
                if _is_url(data, i, stop):
                    while i < stop:
                        point, width = _point(data, i)
                        if bits[point] & SPACE or point == 0x29 or point == 0x5D:
                            break
                        i += width
                        cp += 1
                    for k in range(len(url)):
                        out[at + k] = url[k]
                    at += len(url)
                else:
                    while i < stop:
                        byte = data[i]
                        if byte < 0x80 and bits[byte] & WORD:
                            if at - begin < MAX_WORD:
                                out[at] = byte | 0x20 if 65 <= byte <= 90 else byte
                                at += 1
                            i += 1
                            cp += 1
                            continue
                        point, width = _point(data, i)
                        if not bits[point] & (WORD | MARK):
                            if point == 0x2019:
                                point = np.int32(39)
                                inner = i + 3 < stop and data[i + 3] < 0x80 and bits[data[i + 3]] & WORD
                                if not inner:
                                    break
                            elif point >= 0x80 or not _joins(data, i, stop, bits):
                                break
                        if at - begin < MAX_WORD:
                            at = _put(out, at, low[point])
                        i += width
                        cp += 1
            elif point == 0x26:
                skip = _entity(data, i, stop)
                i += max(skip, 1)
                cp += max(skip, 1)
                continue
            else:
                alone = point == 0x21 or point == 0x3F or point == 0x22 or point == 0x2A
                if alone or point >= 0x2190 or point == 0x201C or point == 0x201D:
                    shown = np.int32(0x22) if point == 0x201C or point == 0x201D else point
                    at = _put(out, at, shown)
                    i += width
                    cp += 1
                    while i < stop and point < 0x80 and data[i] == point:  # "!!!" is one token
                        i += 1
                        cp += 1
                else:
                    if point == 0x2E and (i + 1 == stop or data[i + 1] <= 0x20):
                        gap = max(gap, SENTENCE)
                    i += width
                    cp += 1
                    continue
            starts[n], ends[n], breaks[n] = first, cp, gap
            gap = SENTENCE if closes else NO_BREAK
            n += 1
            cuts[n] = at
        bounds[row + 1] = n
    return bounds, starts[:n].copy(), ends[:n].copy(), breaks[:n].copy(), out[:at].copy(), cuts[: n + 1].copy()
