"""Which documents name a group of people: words of `lexicon/identity_terms.tsv`, one or two in a row.

Called by the audit alone; no filter reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.kernels.text_batch import I64
from curation.kernels.words import U64, WordTable, hash_of

TERMS = Path(__file__).with_name("lexicon") / "identity_terms.tsv"
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class IdentityTable:
    """Groups in file order, and word or word-pair hash → group."""

    groups: list[tuple[str, str, bool]]  # category, group, is the category's reference
    hashes: U64
    group_of: I64


@lru_cache(maxsize=1)
def identity_table() -> IdentityTable:
    groups: list[tuple[str, str, bool]] = []
    hashes, group_of = [], []
    for line in TERMS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        category, group, reference, listed = line.split("\t")
        for term in listed.split("|"):
            words = term.split()
            hashes.append(hash_of(words[0]) if len(words) == 1 else _pair(hash_of(words[0]), hash_of(words[1])))
            group_of.append(len(groups))
        groups.append((category, group, reference == "yes"))
    order = np.argsort(np.array(hashes, np.uint64))
    return IdentityTable(groups, np.array(hashes, np.uint64)[order], np.array(group_of)[order])


def _pair(first: Any, second: Any) -> Any:
    """Hash of two words in a row, for Python integers and uint64 arrays alike."""
    if isinstance(first, int):
        return (first * 0x9E3779B97F4A7C15 + second) & 0xFFFFFFFFFFFFFFFF
    return first * np.uint64(0x9E3779B97F4A7C15) + second


def identities(table: WordTable) -> Bools:
    """Which groups each text names, shape (texts, groups)."""
    known = identity_table()
    size = len(table.doc_words) - 1
    rows = np.repeat(np.arange(size), np.diff(table.doc_words))
    found = np.zeros((size, len(known.groups)), bool)
    pairs = _pair(table.hashes[:-1], table.hashes[1:])
    for hashes, owners in ((table.hashes, rows), (pairs[rows[:-1] == rows[1:]], rows[:-1][rows[:-1] == rows[1:]])):
        slot = np.minimum(np.searchsorted(known.hashes, hashes), len(known.hashes) - 1)
        hit = known.hashes[slot] == hashes
        found[owners[hit], known.group_of[slot[hit]]] = True
    return found
