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
# What the scan asks first of a character, one byte each (see `matcher._traits`).
T_SPACE, T_WORD, T_ODD, T_MARK = 1, 2, 4, 8
UNDERSCORE = 0x5F
MAX_TOKEN = 48  # code points; longer tokens are URLs, hashes or art, not disguised words
MAX_STACK = 512
MIN_WILD_LENGTH = 4
SURE_LENGTH = 6  # letters of a term that may be spelled by more signs than letters ("n1663r"); shorter ones are codes
FIELDS = 5
MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio (Knuth, TAOCP 6.4: Fibonacci hashing); the high bits spread best


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
    slot = np.int64((np.uint64(key) * np.uint64(MIX)) >> np.uint64(40)) & mask
    while keys[slot] >= 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & mask
    return -1


@njit(nogil=True, cache=True)
def _link_end(points, count, at, traits):  # type: ignore[no-untyped-def]
    """End of the link whose `://` or `www.` stands at `at`; `at` itself when none does. A link's words are a name."""
    if at + 3 >= count:
        return at
    scheme = points[at] == 0x3A and points[at + 1] == 0x2F and points[at + 2] == 0x2F
    letter = points[at] | 0x20
    host = letter == 0x77 and points[at + 1] | 0x20 == letter and points[at + 2] | 0x20 == letter
    if not scheme and not (host and points[at + 3] == 0x2E):
        return at
    k = at
    while k < count and not (traits[points[k]] & T_SPACE):
        point = points[k]
        if point == 0x29 or point == 0x5D or point == 0x3E or point == 0x22 or point == 0x7D:  # ) ] > " }
            break
        k += 1
    return k


@njit(nogil=True, cache=True)
def _is_word(point, classes):  # type: ignore[no-untyped-def]
    return (classes[point] & WORD) != 0 and point != UNDERSCORE


@njit(nogil=True, cache=True)
def _walk(points, count, at, symbols, classes, roots, keys, values, terminal, best):  # type: ignore[no-untyped-def]
    """Longest exact match that starts at `at`: best[0] = end, best[1] = pattern (-1 when none)."""
    best[1] = -1
    state = roots[symbols[points[at]]]
    j = at + 1
    while state >= 0:
        if terminal[state] >= 0:
            last = classes[points[j - 1]]
            edge = j == count or not (classes[points[j]] & (WORD | MARK))
            if not edge and points[j] == UNDERSCORE:  # `_word_` is emphasis, `cum_sum` a name
                edge = j + 1 == count or not _is_word(points[j + 1], classes)
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
def _disguised(points, start, stop, looks, leet, kinds, keys, values, terminal, rank, stack):  # type: ignore[no-untyped-def]
    """The pattern that the whole of points[start:stop] spells once disguises are undone, -1 when there is none.

    Of several readings (`f***s`) the one of the lowest rank, that is of the entry that stands first in the lexicon.

    Depth first over (position, state, last letter, letters, leet, wild): letters by look-alike, leet signs by their
    one or two readings, `*` as any letter, stretched letters and separators as nothing.
    """
    top = 0
    chosen = -1
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3], stack[0, 4], stack[0, 5] = start, 0, 0, 0, 0, 0
    while top >= 0:
        at, state, last, letters, signs, wild = stack[top]
        top -= 1
        if at == stop:
            found = terminal[state]
            long_enough = letters + signs + wild >= MIN_WILD_LENGTH or (signs > 0 and wild == 0)
            plain_enough = letters >= signs or letters + signs >= SURE_LENGTH
            spelled = found >= 0 and rank[found] >= 0 and letters >= 2 and plain_enough and long_enough
            if spelled and (chosen < 0 or rank[found] < rank[chosen]):
                chosen = found
            continue
        if top > MAX_STACK - 40:
            return chosen
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
            symbol = looks[point] if not is_sign else leet[point, option - 1] if point < len(leet) else NONE
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
    return chosen


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
def _token_end(points, count, at, traits):  # type: ignore[no-untyped-def]
    """End of the token at `at` (white space, comma or slash); may it hide a word: an odd sign or three like letters."""
    odd = False
    before = last = -1
    k = at
    while k < count:
        point = points[k]
        trait = traits[point]
        if trait & T_SPACE or point == 0x2C or point == 0x2F:  # a comma or slash parts two words
            break
        odd = odd or (trait & T_ODD) != 0 or (point == last and point == before)
        before, last = last, point
        k += 1
    return k, odd


@njit(nogil=True, cache=True)
def _trim(points, start, stop, classes, leet):  # type: ignore[no-untyped-def]
    """The token without punctuation at its ends; `@` and `$` at either end may stand for letters."""
    while start < stop and not _is_word(points[start], classes) and not _is_sign(points[start], leet, start + 1 < stop):
        start += 1
    while stop > start and not _is_word(points[stop - 1], classes):
        if points[stop - 1] == 0x24 or points[stop - 1] == 0x40 or classes[points[stop - 1]] & MARK:
            break
        stop -= 1
    return start, stop


@njit(nogil=True, cache=True)
def scan(  # type: ignore[no-untyped-def]
    data, offsets, symbols, classes, traits, roots, pairs, keys, values, terminal, looks, leet, kinds, rank, fold
):
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
            trait = traits[point]
            if trait & T_SPACE:
                boundary = True
                at += 1
                continue
            if fold and (point == 0x3A or (point | 0x20) == 0x77):
                end = _link_end(points, count, at, traits)
                if end > at:
                    at = token_stop = end
                    boundary = True
                    continue
            if fold and at >= token_stop:
                token_stop, may_hide = _token_end(points, count, at, traits)
                pattern = -1
                end = at
                start, stop = at, token_stop
                if may_hide and token_stop - at <= MAX_TOKEN:
                    start, stop = _trim(points, at, token_stop, classes, leet)
                    if stop - start >= 3 and _suspicious(points, start, stop, looks, leet, kinds):
                        _walk(points, count, start, symbols, classes, roots, keys, values, terminal, best)
                        if best[1] < 0 or (best[0] < stop and not _is_apostrophe(points[best[0]])):
                            pattern = _disguised(
                                points, start, stop, looks, leet, kinds, keys, values, terminal, rank, stack
                            )
                            end = stop
                elif token_stop == at + 1 and looks[point] != NONE:
                    end = _spaced_end(points, count, at, classes, looks)
                    if end > at:
                        pattern = _spaced(points, at, end, looks, keys, values, terminal, rank)
                if pattern >= 0:
                    hits = _emit(hits, found, row, start, end, pattern, FOLDED)
                    found += 1
                    at = end
                    token_stop = max(token_stop, end)
                    boundary = False
                    continue
            if boundary or not (trait & T_WORD):
                root = roots[symbols[point]]
                # Two characters decide most words: the table of pairs says whether any term begins so.
                if root >= 0 and (
                    terminal[root] >= 0 or (at + 1 < count and pairs[symbols[point], symbols[points[at + 1]]])
                ):
                    _walk(points, count, at, symbols, classes, roots, keys, values, terminal, best)
                    in_name = at > 1 and points[at - 1] == UNDERSCORE and _is_word(points[at - 2], classes)
                    if best[1] >= 0 and not in_name:
                        hits = _emit(hits, found, row, at, best[0], best[1], EXACT)
                        found += 1
                        at = best[0]
                        boundary = not (traits[points[at - 1]] & T_WORD)
                        continue
            at += 1
            if trait & T_WORD:
                boundary = False
                while at < count and traits[points[at]] == T_WORD:  # the rest of a plain word
                    at += 1
            else:
                boundary = (trait & T_MARK) == 0
    return hits[:found]


@njit(nogil=True, cache=True)
def _is_apostrophe(point):  # type: ignore[no-untyped-def]
    return point == 0x27 or point == 0x2019


@njit(nogil=True, cache=True)
def _is_sign(point, leet, followed):  # type: ignore[no-untyped-def]
    return followed and point < len(leet) and leet[point, 0] != NONE and point != 0x21


@njit(nogil=True, cache=True)
def _spaced(points, start, end, looks, keys, values, terminal, rank):  # type: ignore[no-untyped-def]
    """The pattern spelled by the single letters of points[start:end], -1 when there is none."""
    state = 0
    for k in range(start, end, 2):
        state = _child(keys, values, state, looks[points[k]])
        if state < 0:
            return -1
    pattern = terminal[state]
    return pattern if pattern >= 0 and rank[pattern] >= 0 else -1
