"""Randomness without arrival order: numbers that depend only on what they are about.

A retried, re-ordered or re-partitioned run must make the same choices, so nothing here keeps state.
"""

from __future__ import annotations

import xxhash


def derive_seed(root: int, *purpose: str) -> int:
    """A 63-bit seed for one purpose, the same on every platform and in every arm."""
    return xxhash.xxh3_64_intdigest("\x1f".join((str(root), *purpose)).encode()) >> 1


def unit_hash(key: str, seed: int) -> float:
    """A number in [0, 1) that depends only on `key` and `seed`: 53 bits, so every value is an exact double."""
    return (xxhash.xxh3_64_intdigest(key.encode(), seed=seed & 0xFFFFFFFFFFFFFFFF) >> 11) / float(1 << 53)
