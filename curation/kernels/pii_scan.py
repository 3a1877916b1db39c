"""Finds where personal data could stand: places worth a closer look, one pass over the bytes.

In: a `TextBatch`. Out: candidates (document, byte, code point, kind). `curation/filters/pii.py` decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from curation.kernels.text_batch import I64, U8, TextBatch

AT_SIGN, IPV4, IPV6, PHONE = range(4)
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 7, 15  # ITU-T E.164: at most 15 digits; the shortest subscriber numbers we take


@dataclass(frozen=True)
class Candidates:
    """Parallel arrays in reading order; all candidates but those of AT_SIGN are ASCII from `start` to `end`."""

    documents: I64
    starts: I64  # byte in the batch's buffer; for AT_SIGN that of the sign
    ends: I64
    chars: I64  # code point of `start` in the document
    kinds: I64


def pii_candidates(batch: TextBatch) -> Candidates:
    """Every `@` between word characters, dotted quad, colon-separated hexadecimal run and phone-like digit run."""
    capacity = 1024
    while True:
        out = np.empty((5, capacity), np.int64)
        found = _scan(batch.data, batch.offsets, out)
        if found <= capacity:
            return Candidates(*out[:, :found])
        capacity = found


@njit(nogil=True, cache=True)
def _is_word(b: int | np.uint8) -> bool:
    """Letter, digit, underscore, or part of a character beyond ASCII."""
    return bool((48 <= b <= 57) or (65 <= b <= 90) or (97 <= b <= 122) or b == 95 or b >= 128)


@njit(nogil=True, cache=True)
def _quad_end(data: U8, i: int | np.int64, stop: int | np.int64) -> int | np.int64:
    """The end of four numbers of one to three digits between dots, which no digit or dotted digit follows; else `i`."""
    j = i
    for part in range(4):
        digits = 0
        while j < stop and 48 <= data[j] <= 57 and digits < 4:
            j += 1
            digits += 1
        if digits == 0 or digits > 3:
            return i
        if part < 3:
            if j >= stop or data[j] != 46:
                return i
            j += 1
    if j < stop and _is_word(data[j]):
        return i
    if j + 1 < stop and (data[j] == 46 or data[j] == 45) and 48 <= data[j + 1] <= 57:
        return i
    return j


@njit(nogil=True, cache=True)
def _hex_end(data: U8, i: int | np.int64, stop: int | np.int64) -> int | np.int64:
    """The end of a run of hexadecimal digits and at least two colons, else `i`."""
    j, colons = i, 0
    while j < stop:
        b = data[j]
        if b == 58:
            colons += 1
        elif not ((48 <= b <= 57) or (97 <= (b | 32) <= 102)):
            break
        j += 1
    if colons < 2 or (j < stop and _is_word(data[j])):
        return i
    return j


@njit(nogil=True, cache=True)
def _phone_end(data: U8, i: int | np.int64, stop: int | np.int64) -> int | np.int64:
    """The end of a run of 7 to 15 digits, single separators and brackets, else `i`."""
    j, end, digits, separators = i, i, 0, 0
    while j < stop:
        b = data[j]
        if 48 <= b <= 57:
            digits += 1
            separators = 0
            end = j + 1
        elif b == 32 or b == 45 or b == 46 or b == 40 or b == 41 or (b == 43 and j == i):
            separators += 1
            if separators > 2:
                break
        else:
            break
        j += 1
    if digits < MIN_PHONE_DIGITS or digits > MAX_PHONE_DIGITS or (end < stop and _is_word(data[end])):
        return i
    return end


@njit(nogil=True, cache=True)
def _scan(data: U8, offsets: I64, out: I64) -> int:
    found = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        char = 0
        while i < stop:
            b = data[i]
            previous = data[i - 1] if i > offsets[d] else np.uint8(32)
            kind, end = -1, i
            if b == 64:
                if i > offsets[d] and previous < 128 and i + 1 < stop and _is_word(data[i + 1]):
                    kind, end = AT_SIGN, i + 1
            elif (48 <= b <= 57 or b == 43 or b == 40) and not _is_word(previous):
                joined = previous == 46 or previous == 45 or previous == 47 or previous == 58 or previous == 61
                if 48 <= b <= 57 and not joined:
                    end = _quad_end(data, i, stop)
                    kind = IPV4
                if end == i and 48 <= b <= 57 and previous != 58:
                    end = _hex_end(data, i, stop)
                    kind = IPV6
                if end == i and not joined and previous != 36 and previous != 35 and previous != 43:
                    end = _phone_end(data, i, stop)
                    kind = PHONE
                if end == i:
                    kind = -1
            if kind >= 0:
                if found < out.shape[1]:
                    out[0, found], out[1, found], out[2, found] = d, i, end
                    out[3, found], out[4, found] = char, kind
                found += 1
                if kind != PHONE or 48 <= b <= 57:  # behind a bracket or plus an address may still stand
                    char += end - i  # every candidate is ASCII
                    i = end
                    continue
            char += 1
            i += 1
            while i < stop and (data[i] & 0xC0) == 0x80:
                i += 1
    return found
