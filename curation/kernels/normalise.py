"""Which texts of a batch normalisation could change at all: one scan, so that the others never reach Python.

The answer is never too small: a text that is passed over is exactly what `curation.normalise.normalise` would return
(a property test compares the two). It may be too large; Python then finds nothing to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ftfy.badness import BADNESS_RE

from curation.kernels.text_batch import TextBatch

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

TABLE = Path(__file__).with_name("normalise_tables.npz")
CHANGES = 1  # removed, replaced, or perhaps not in normal form C: the rare characters
SPACE = 2  # str.isspace: matters at both ends
ENTITY_CHARS = 26  # `&` to `;` of the longest entity, as in ftfy: up to 24 characters and a `#` between them

# Characters that normalise removes or replaces by a newline. Joiners (U+200C, U+200D) and marks of direction stay:
# Persian, the Indic scripts, emoji, Hebrew and Arabic need them.
NEWLINES = "\r\x0b\x0c\u2028\u2029"
REMOVED = (
    (0x00, 0x08),
    (0x0E, 0x1F),
    (0x7F, 0x9F),  # C1 controls that the repair of encodings left over
    (0xAD, 0xAD),  # soft hyphen
    (0x200B, 0x200B),  # zero-width space: stays beside the unspaced scripts, where it separates words
    (0x2060, 0x2060),  # word joiner
    (0x206A, 0x206F),  # deprecated format characters
    (0xD800, 0xDFFF),
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF9, 0xFFFC),  # interlinear annotation, object replacement
)


@dataclass(frozen=True)
class Scan:
    """What one scan of a batch finds out, rows as in the batch."""

    needs_python: npt.NDArray[np.bool_]  # something inside may have to change
    begins: npt.NDArray[np.int64]  # byte ranges of the texts without the white space at their ends
    ends: npt.NDArray[np.int64]


def scan(batch: TextBatch) -> Scan:
    """Where normalisation may change a text, and where it only trims it."""
    first, second = mojibake_pairs()
    return Scan(*_scan(batch.data, batch.offsets, _points(), first, second))


def trimmed(batch: TextBatch, found: Scan) -> pa.Array:
    """The texts of `batch` without white space at both ends; the same array when there is none."""
    offsets = batch.offsets
    if np.array_equal(found.begins, offsets[:-1]) and np.array_equal(found.ends, offsets[1:]):
        return batch.array
    new_offsets = np.zeros(len(offsets), np.int64)
    np.cumsum(found.ends - found.begins, out=new_offsets[1:])
    data = _gather(batch.data, found.begins, new_offsets)
    buffers = [None, pa.py_buffer(new_offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(batch), buffers).cast(batch.array.type)


@numba.njit(nogil=True, cache=True)
def _gather(data, begins, new_offsets):  # type: ignore[no-untyped-def]
    out = np.empty(new_offsets[-1], np.uint8)
    for row in range(len(begins)):
        size = new_offsets[row + 1] - new_offsets[row]
        out[new_offsets[row] : new_offsets[row + 1]] = data[begins[row] : begins[row] + size]
    return out


@numba.njit(nogil=True, cache=True)
def _scan(data, offsets, bits, first, second):  # type: ignore[no-untyped-def]
    """`scan` over UTF-8: `bits` by code point, `first` and `second` by code point below 0x10000."""
    count = len(offsets) - 1
    flagged = np.zeros(count, np.bool_)
    begins = np.zeros(count, np.int64)
    ends = np.zeros(count, np.int64)
    for row in range(count):
        begin, end = offsets[row], offsets[row + 1]
        entity, markup = False, False
        text_begin, text_end = begin, begin  # of what is not white space at the ends
        blank = True
        pending = np.uint64(0)  # alternatives of the mojibake pattern whose first character has just been seen
        position = begin
        while position < end:
            byte = data[position]
            if byte < 0x80:
                point, width = np.int64(byte), 1
                if byte == 0x26 and not entity:
                    entity = _is_entity(data, position + 1, end)
                elif byte == 0x3C:
                    markup = True
            else:
                point, width = _decode(data, position)
            mark = bits[point]
            if mark & 1 or (pending and point < 0x10000 and pending & second[point]):
                flagged[row] = True
                break
            pending = first[point] if width > 1 and point < 0x10000 else np.uint64(0)
            if not mark:
                text_end = position + width
                if blank:
                    blank, text_begin = False, position
            position += width
        flagged[row] |= entity and not markup
        begins[row], ends[row] = (begin, end) if flagged[row] else (text_begin, text_end)
    return flagged, begins, ends


@numba.njit(nogil=True, cache=True)
def _decode(data, position):  # type: ignore[no-untyped-def]
    """Code point and width of the multi-byte character at `position`; the text is valid UTF-8."""
    byte = np.int64(data[position])
    second = np.int64(data[position + 1] & 0x3F)
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | second, 2
    third = np.int64(data[position + 2] & 0x3F)
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | second << 6 | third, 3
    return (byte & 0x07) << 18 | second << 12 | third << 6 | np.int64(data[position + 3] & 0x3F), 4


@numba.njit(nogil=True, cache=True)
def _is_entity(data, start, end):  # type: ignore[no-untyped-def]
    """True when `start` follows an `&` that may begin an HTML entity: letters, digits or `#` up to a `;`."""
    stop = min(end, start + ENTITY_CHARS)
    for position in range(start, stop):
        byte = data[position]
        if byte == 0x3B:
            return position > start
        lower = byte | 0x20
        if not (0x30 <= byte <= 0x39 or 0x61 <= lower <= 0x7A or byte == 0x23):
            return False
    return False


@lru_cache(maxsize=1)
def _points() -> U8:
    """Bits of every code point, shape (0x110000,), pinned to Unicode 14.0: later characters count as CHANGES."""
    return np.ascontiguousarray(np.load(TABLE)["bits"])


@lru_cache(maxsize=1)
def mojibake_pairs() -> tuple[U64, U64]:
    """Bit k of `first[a] & second[b]`: characters a, b side by side can begin alternative k of ftfy's badness pattern.

    Each alternative of that pattern is a sequence of character sets; a text without the rarest neighbouring pair of
    the sequence cannot match it. Derived from the pattern itself, so another version of ftfy gives other tables.
    """
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x10000))))
    first, second = np.zeros(0x10000, np.uint64), np.zeros(0x10000, np.uint64)
    members: dict[str, list[int]] = {}
    for number, tokens in enumerate(_alternatives(BADNESS_RE.pattern)):
        sets = [members.setdefault(token, [ord(match) for match in re.findall(token, everything)]) for token in tokens]
        if len(sets) == 1:
            continue  # C1 controls, which the table of points has
        pairs = [(a, b) for a, b in pairwise(sets) if min(a) >= 0x80]
        left, right = min(pairs, key=lambda pair: len(pair[0]) * len(pair[1]))
        bit = np.uint64(1) << np.uint64(number)
        first[left] |= bit
        second[right] |= bit
    return first, second


def _alternatives(pattern: str) -> list[list[str]]:
    """The alternatives of a verbose pattern without groups, each as its character sets in order."""
    lines = [line for line in pattern.splitlines() if not line.lstrip().startswith("#")]
    found: list[list[str]] = [[]]
    for token in re.findall(r"\[[^\]]*\]|\\.|\S", " ".join(lines)):
        if token == "|":
            found.append([])
        elif token == "?":
            found[-1].pop()  # an optional set: the pair around it is looser than any other of its alternative
        elif token != "^":
            found[-1].append(token)
    found = [tokens for tokens in found if tokens]
    if len(found) > 64:
        raise ValueError(f"{len(found)} alternatives do not fit in 64 bits")
    return found


def build() -> None:
    """Write the table of code points from the running Python's Unicode database (the committed one: 14.0)."""
    import unicodedata

    bits = np.zeros(0x110000, np.uint8)
    for point in range(0x110000):
        char = chr(point)
        if 0xD800 <= point <= 0xDFFF:
            continue
        is_unassigned = unicodedata.category(char) == "Cn"
        if is_unassigned or unicodedata.combining(char) or unicodedata.normalize("NFC", char) != char:
            bits[point] |= CHANGES
        if char.isspace():
            bits[point] |= SPACE
        # The second half of a pair that composes, whatever its combining class (Hangul vowels have class 0).
        halves = unicodedata.normalize("NFD", char)
        if len(halves) > 1 and unicodedata.normalize("NFC", halves) == char:
            bits[[ord(half) for half in halves[1:]]] |= CHANGES
    for low, high in REMOVED:
        bits[low : high + 1] |= CHANGES
    bits[[ord(char) for char in NEWLINES]] |= CHANGES
    np.savez_compressed(TABLE, bits=bits)


if __name__ == "__main__":
    build()
