"""Reads one code point out of UTF-8 bytes: what every scan over the text buffer does first."""

from __future__ import annotations

import numpy as np
from numba import njit

from curation.kernels.text_batch import U8


@njit(nogil=True, cache=True)
def decode(data: U8, i: int | np.int64) -> tuple[np.int64, int]:
    """The code point at byte `i` of valid UTF-8, and its width in bytes."""
    b = np.int64(data[i])
    if b < 0x80:
        return b, 1
    if b < 0xE0:
        return ((b & 0x1F) << 6) | (np.int64(data[i + 1]) & 0x3F), 2
    if b < 0xF0:
        return ((b & 0x0F) << 12) | ((np.int64(data[i + 1]) & 0x3F) << 6) | (np.int64(data[i + 2]) & 0x3F), 3
    return (
        ((b & 0x07) << 18)
        | ((np.int64(data[i + 1]) & 0x3F) << 12)
        | ((np.int64(data[i + 2]) & 0x3F) << 6)
        | (np.int64(data[i + 3]) & 0x3F)
    ), 4
