"""Repeated lines in plain Python: what a line is compared by, its hash, and the lines of a text."""

from __future__ import annotations

from curation.kernels import unicode_tables

MASK = (1 << 64) - 1


def plain_key(line: str) -> str:
    """What two lines are compared by."""
    lower = unicode_tables.lower()
    return " ".join("".join(chr(lower[ord(char)]) for char in line).split())


def plain_hash(key: str) -> int:
    """The hash of a line with this key."""
    h = 0x9E3779B97F4A7C15
    for char in key:
        h = (h ^ ord(char)) * 0xD6E8FEB86659FD93 & MASK
        h ^= h >> 32
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ (h >> 33)) * factor & MASK
    return h ^ (h >> 33)


def plain_lines(text: str, min_chars: int) -> list[tuple[str, int, int]]:
    """(key, start, end) of every line of at least `min_chars`, with its break and the blank lines after it."""
    found: list[tuple[str, int, int]] = []
    position, takes_blank = 0, False
    for line in text.split("\n"):
        end = min(len(text), position + len(line) + 1)
        key = plain_key(line)
        if key:
            takes_blank = len(key) >= min_chars
            if takes_blank:
                found.append((key, position, end))
        elif takes_blank:
            found[-1] = (*found[-1][:2], end)
        position = end
    return found
