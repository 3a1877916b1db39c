"""The compiled scan of the matcher: UTF-8 texts → hits (row, start, end, pattern, how), in code points.

Every match starts at a word boundary, so a trie walk from each word start finds all of them and no failure links are
needed; most words leave the trie after two or three characters. Called only by `matcher.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from curation.kernels.unicode_tables import MARK, SINGLE, SPACE, WORD

NONE = 0
SEP = 1  # one run of white space, hyphens or underscores: "camel-jockey" is written like "camel jockey"
FIRST_LETTER = 2  # symbols 2..27 are a..z
LAST_LETTER = 27

EXACT = 0
FOLDED = 1  # found only after undoing leet, separators, stretched letters or look-alikes

# How a character takes part in the search for disguised terms.
PLAIN, HIDDEN, WILD, HARD = 0, 1, 2, 3
MAX_TOKEN = 48  # code points; longer tokens are URLs, hashes or art, not disguised words
MAX_STACK = 512
MIN_WILD_LENGTH = 4
FIELDS = 5


@njit(nogil=True, cache=True)
def _decode(data, start, stop, out):  # type: ignore[no-untyped-def]
    """Code points of `data[start:stop]` into `out`; how many."""
    count = 0
    i = start
    while i < stop:
        byte = data[i]
        if byte < 0x80:
            out[count] = byte
            i += 1
        elif byte < 0xE0:
            out[count] = ((byte & 0x1F) << 6) | (data[i + 1] & 0x3F)
            i += 2
        elif byte < 0xF0:
            out[count] = ((byte & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F)
            i += 3
        else:
            high = ((byte & 0x07) << 18) | ((data[i + 1] & 0x3F) << 12)
            out[count] = high | ((data[i + 2] & 0x3F) << 6) | (data[i + 3] & 0x3F)
            i += 4
        count += 1
    return count


@njit(nogil=True, cache=True)
def _child(keys, values, state, symbol):  # type: ignore[no-untyped-def]
    """The trie state after `symbol`, -1 when there is none."""
    mask = len(keys) - 1
    key = (np.int64(state) << 20) | np.int64(symbol)
    slot = ((key * 0x9E3779B1) >> 7) & mask
    while keys[slot] >= 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & mask
    return -1


@njit(nogil=True, cache=True)
def _walk(points, count, at, symbols, classes, roots, keys, values, terminal, best):  # type: ignore[no-untyped-def]
    """Longest exact match that starts at `at`: best[0] = end, best[1] = pattern (-1 when none)."""
    best[1] = -1
    state = roots[symbols[points[at]]]
    j = at + 1
    while state >= 0:
        if terminal[state] >= 0:
            last = classes[points[j - 1]]
            edge = j == count or not (classes[points[j]] & (WORD | MARK)) or points[j] == 0x5F
            if edge or not (last & WORD) or (last & SINGLE):
                best[0] = j
                best[1] = terminal[state]
        if j >= count:
            return
        symbol = symbols[points[j]]
        if symbol == NONE:
            return
        if symbol == SEP:
            newlines = 0
            while j < count and symbols[points[j]] == SEP:
                newlines += points[j] == 10
                j += 1
            if newlines > 1:  # a blank line ends a phrase
                return
        else:
            j += 1
        state = _child(keys, values, state, symbol)


@njit(nogil=True, cache=True)
def _disguised(points, start, stop, looks, leet, kinds, keys, values, terminal, disguisable, stack):  # type: ignore[no-untyped-def]
    """The pattern that the whole of points[start:stop] spells once disguises are undone, -1 when there is none.

    Depth first over (position, state, last letter, letters, leet, wild): letters by look-alike, leet signs by their
    one or two readings, `*` as any letter, stretched letters and separators as nothing.
    """
    top = 0
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3], stack[0, 4], stack[0, 5] = start, 0, 0, 0, 0, 0
    while top >= 0:
        at, state, last, letters, signs, wild = stack[top]
        top -= 1
        if at == stop:
            found = terminal[state]
            long_enough = letters + signs + wild >= MIN_WILD_LENGTH or (signs > 0 and wild == 0)
            if found >= 0 and disguisable[found] and letters >= 2 and letters >= signs and long_enough:
                return found
            continue
        if top > MAX_STACK - 40:
            return -1
        point = points[at]
        kind = kinds[point] if point < len(kinds) else PLAIN
        if kind == HIDDEN:
            top += 1
            stack[top, 0], stack[top, 1], stack[top, 2] = at + 1, state, last
            stack[top, 3], stack[top, 4], stack[top, 5] = letters, signs, wild
        if kind == WILD and letters > 0:
            for symbol in range(LAST_LETTER, FIRST_LETTER - 1, -1):
                after = _child(keys, values, state, symbol)
                if after >= 0:
                    top += 1
                    stack[top, 0], stack[top, 1], stack[top, 2] = at + 1, after, symbol
                    stack[top, 3], stack[top, 4], stack[top, 5] = letters, signs, wild + 1
        for option in range(3):
            is_sign = option > 0
            if option == 0:
                symbol = looks[point]
            else:
                symbol = leet[point, option - 1] if point < len(leet) else NONE
            if symbol == NONE:
                continue
            if symbol == last:
                top += 1
                stack[top, 0], stack[top, 1], stack[top, 2] = at + 1, state, last
                stack[top, 3], stack[top, 4], stack[top, 5] = letters, signs, wild
            after = _child(keys, values, state, symbol)
            if after >= 0:
                top += 1
                stack[top, 0], stack[top, 1], stack[top, 2] = at + 1, after, symbol
                stack[top, 3], stack[top, 4], stack[top, 5] = letters + (not is_sign), signs + is_sign, wild
    return -1


@njit(nogil=True, cache=True)
def _suspicious(points, start, stop, looks, leet, kinds):  # type: ignore[no-untyped-def]
    """Whether a token could be a disguised word: a cheap test that most tokens fail."""
    letters = 0
    run = 0
    odd = False
    previous = -1
    for k in range(start, stop):
        point = points[k]
        kind = kinds[point] if point < len(kinds) else PLAIN
        if kind == HARD:
            return False
        look = looks[point]
        if look != NONE:
            letters += 1
            odd = odd or point >= 0x80
        elif kind != PLAIN or (point < len(leet) and leet[point, 0] != NONE):
            odd = True
        else:
            return False
        run = run + 1 if look != NONE and look == previous else 1
        odd = odd or run >= 3
        previous = look
    return odd and letters >= 2


@njit(nogil=True, cache=True)
def _ends_phrase(point):  # type: ignore[no-untyped-def]
    return point == 0x21 or point == 0x2C or point == 0x2E or point == 0x3F  # ! , . ?


@njit(nogil=True, cache=True)
def _spaced_end(points, count, at, classes, looks):  # type: ignore[no-untyped-def]
    """End of a run `x y z w` of at least four single letters at `at`, else `at`."""
    k = at
    letters = 0
    while k < count and looks[points[k]] != NONE:
        if k + 1 < count and not (classes[points[k + 1]] & SPACE) and not _ends_phrase(points[k + 1]):
            break
        letters += 1
        if k + 2 < count and points[k + 1] == 0x20:
            k += 2
        else:
            k += 1
            break
    if letters < 4:
        return at
    return k - 1 if points[k - 1] == 0x20 else k


@njit(nogil=True, cache=True)
def _emit(hits, found, row, start, end, pattern, how):  # type: ignore[no-untyped-def]
    if found == len(hits):
        grown = np.empty((2 * len(hits), FIELDS), np.int32)
        grown[:found] = hits
        hits = grown
    hits[found, 0], hits[found, 1], hits[found, 2] = row, start, end
    hits[found, 3], hits[found, 4] = pattern, how
    return hits


@njit(nogil=True, cache=True)
def scan(data, offsets, symbols, classes, roots, keys, values, terminal, looks, leet, kinds, disguisable, fold):  # type: ignore[no-untyped-def]
    """All hits of a batch, int32 (n, 5): row, start, end, pattern, how; leftmost-longest, in text order, no overlap."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    points = np.empty(longest + 1, np.int32)
    hits = np.empty((256, FIELDS), np.int32)
    best = np.empty(2, np.int64)
    stack = np.empty((MAX_STACK, 6), np.int64)
    found = 0
    for row in range(len(offsets) - 1):
        count = _decode(data, offsets[row], offsets[row + 1], points)
        at = 0
        token_stop = 0  # end of the token already tested for disguise
        boundary = True
        while at < count:
            point = points[at]
            bits = classes[point]
            if bits & SPACE:
                boundary = True
                at += 1
                continue
            if fold and at >= token_stop:
                token_stop = at
                while token_stop < count and not (classes[points[token_stop]] & SPACE):
                    token_stop += 1
                start, stop = at, token_stop
                while (
                    start < stop
                    and not (classes[points[start]] & WORD)
                    and not _is_sign(points[start], leet, start + 1 < stop)
                ):
                    start += 1
                while stop > start and not (classes[points[stop - 1]] & WORD) and points[stop - 1] != 0x24:
                    stop -= 1
                if stop - start == 1 and looks[points[start]] != NONE:
                    end = _spaced_end(points, count, start, classes, looks)
                    if end > start:
                        pattern = _spaced(points, start, end, looks, keys, values, terminal, disguisable)
                        if pattern >= 0:
                            hits = _emit(hits, found, row, start, end, pattern, FOLDED)
                            found += 1
                            at = end
                            token_stop = end
                            boundary = False
                            continue
                elif 3 <= stop - start <= MAX_TOKEN and _suspicious(points, start, stop, looks, leet, kinds):
                    _walk(points, count, start, symbols, classes, roots, keys, values, terminal, best)
                    if best[1] < 0 or (best[0] < stop and not _is_apostrophe(points[best[0]])):
                        pattern = _disguised(
                            points, start, stop, looks, leet, kinds, keys, values, terminal, disguisable, stack
                        )
                        if pattern >= 0:
                            hits = _emit(hits, found, row, start, stop, pattern, FOLDED)
                            found += 1
                            at = stop
                            boundary = False
                            continue
            is_word = (bits & WORD) and point != 0x5F
            if (boundary or not is_word or (bits & SINGLE)) and roots[symbols[point]] >= 0:
                _walk(points, count, at, symbols, classes, roots, keys, values, terminal, best)
                if best[1] >= 0:
                    hits = _emit(hits, found, row, at, best[0], best[1], EXACT)
                    found += 1
                    at = best[0]
                    boundary = not (classes[points[at - 1]] & WORD)
                    continue
            boundary = not is_word and not (bits & MARK)
            at += 1
    return hits[:found]


@njit(nogil=True, cache=True)
def _is_apostrophe(point):  # type: ignore[no-untyped-def]
    return point == 0x27 or point == 0x2019


@njit(nogil=True, cache=True)
def _is_sign(point, leet, followed):  # type: ignore[no-untyped-def]
    return followed and point < len(leet) and leet[point, 0] != NONE and point != 0x21


@njit(nogil=True, cache=True)
def _spaced(points, start, end, looks, keys, values, terminal, disguisable):  # type: ignore[no-untyped-def]
    """The pattern spelled by the single letters of points[start:end], -1 when there is none."""
    state = 0
    for k in range(start, end, 2):
        state = _child(keys, values, state, looks[points[k]])
        if state < 0:
            return -1
    pattern = terminal[state]
    return pattern if pattern >= 0 and disguisable[pattern] else -1
