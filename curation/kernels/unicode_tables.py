"""One byte of class bits and one lower-case code point for every Unicode code point, pinned to one Unicode version.

Kernels look characters up here and never ask the running Python: Python 3.11 and 3.13 carry different Unicode
versions, and the same text must give the same hash on both. `python -m curation.kernels.unicode_tables` rebuilds the
file from the running Python (the committed one: Python 3.11, Unicode 14.0).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

WORD = 1  # re's \w: letters, numbers, underscore
SPACE = 2  # str.isspace
ALPHA = 4  # str.isalpha
UPPER = 8  # str.isupper
DIGIT = 16  # str.isnumeric
PUNCT = 32  # general category P* or S*
SINGLE = 64  # scripts written without spaces: every character counts as a word of its own
MARK = 128  # general category M*

TABLE = Path(__file__).with_name("unicode_tables.npz")

# Code point ranges of scripts written without spaces between words (Unicode 14.0 Blocks.txt).
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK unified ideographs
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x20000, 0x2FA1F),  # CJK extensions B to F
)


@lru_cache(maxsize=1)
def classes() -> npt.NDArray[np.uint8]:
    """Class bits, shape (0x110000,)."""
    return np.ascontiguousarray(np.load(TABLE)["classes"])


@lru_cache(maxsize=1)
def lower() -> npt.NDArray[np.int32]:
    """Lower-case code point, shape (0x110000,); a character whose lower case is several keeps the first."""
    return np.ascontiguousarray(np.arange(0x110000, dtype=np.int32) + np.load(TABLE)["lower_delta"])


def build() -> None:
    """Write the table from the running Python's Unicode database."""
    import unicodedata

    bits = np.zeros(0x110000, np.uint8)
    lower_delta = np.zeros(0x110000, np.int32)
    for point in range(0x110000):
        char = chr(point)
        category = unicodedata.category(char)
        value = WORD if char.isalnum() or char == "_" else 0
        value |= SPACE if char.isspace() else 0
        value |= ALPHA if char.isalpha() else 0
        value |= UPPER if char.isupper() else 0
        value |= DIGIT if char.isnumeric() else 0
        value |= PUNCT if category[0] in "PS" else 0
        value |= MARK if category[0] == "M" else 0
        value |= SINGLE if value & WORD and any(a <= point <= b for a, b in UNSPACED) else 0
        bits[point] = value
        lower_delta[point] = ord(char.lower()[0]) - point
    np.savez_compressed(TABLE, classes=bits, lower_delta=lower_delta)


if __name__ == "__main__":
    build()
