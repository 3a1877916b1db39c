"""Who stays in a component of candidates, by exact Jaccard.

The rule: walk the documents from the most to the least preferred; a document whose exact Jaccard with one that
already stays reaches the threshold is a duplicate of the closest such document, otherwise it stays. So every removed
document has been compared with the very document it is said to duplicate, chains (a~b~c with a and c unlike) remove
nothing that does not resemble what stays, and the outcome depends on the set of documents alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.dedup.settings import DedupSettings
from curation.kernels.shingles import U64, fill_table, in_table, table_slots
from curation.kernels.text_batch import I64

F64 = npt.NDArray[np.float64]


@njit(nogil=True, cache=True)
def fewest_common(n: int, m: int, threshold: float) -> int:
    """How many elements sets of `n` and `m` must share at least for a Jaccard similarity of `threshold`.

    More than `min(n, m)` when no number is enough. Compared as the quotient that is the similarity: products lost
    pairs that sit exactly on the threshold (0.55 * 100 > 55).
    """
    common = min(int(threshold * (n + m) / (1.0 + threshold)), min(n, m) + 1)
    while common > 0 and (common - 1) / (n + m - common + 1) >= threshold:
        common -= 1
    while common <= min(n, m) and common / (n + m - common) < threshold:
        common += 1
    return common


@njit(nogil=True, cache=True)
def jaccard_with(table: U64, n: int, other: U64, threshold: float) -> float:
    """|A ∩ B| / |A ∪ B| of the `n` values in `table` and the distinct ones of `other`; 0.0 when below `threshold`.

    It stops as soon as the threshold is out of reach.
    """
    m = other.shape[0]
    if n == 0 or m == 0:
        return 0.0
    may_miss = m - fewest_common(n, m, threshold)
    if may_miss < 0:
        return 0.0
    missed = 0
    for i in range(m):
        if not in_table(other[i], table):
            missed += 1
            if missed > may_miss:
                return 0.0
    common = m - missed
    similarity: float = common / (n + m - common)
    return similarity


@dataclass(frozen=True)
class Candidates:
    """The members of components, grouped: component c is `starts[c]:starts[c + 1]`, each in order of preference."""

    starts: I64
    fixed: npt.NDArray[np.bool_]  # kept by an earlier run: always stays
    bands: U64  # (members, bands): used only in components larger than `all_pairs_up_to`
    shingles: U64  # flat; member i is `shingles[begins[i]:ends[i]]`, each once
    begins: I64
    ends: I64


@njit(nogil=True, cache=True)
def _walk(
    starts: I64,
    fixed: npt.NDArray[np.bool_],
    bands: U64,
    shingles: U64,
    begins: I64,
    ends: I64,
    threshold: float,
    all_pairs_up_to: int,
    max_comparisons: int,
    kept_as: I64,
    jaccards: F64,
) -> tuple[int, int]:
    comparisons = 0
    capped = 0
    longest = 0
    for i in range(begins.shape[0]):
        longest = max(longest, ends[i] - begins[i])
    scratch = np.empty(table_slots(longest), np.uint64)
    ignored = np.empty(longest, np.uint64)
    for c in range(starts.shape[0] - 1):
        begin, end = starts[c], starts[c + 1]
        small = end - begin <= all_pairs_up_to
        leaders = np.empty(end - begin, np.int64)
        count = 0
        for i in range(begin, end):
            best = 0.0
            best_leader = -1
            tried = 0
            own = ends[i] - begins[i]
            table = scratch[: table_slots(own)]
            if not fixed[i] and count:
                fill_table(shingles[begins[i] : ends[i]], table, ignored)
                for position in range(count):
                    leader = leaders[position]
                    if not small:
                        if tried == max_comparisons:
                            capped += 1
                            break
                        if not _share_a_band(bands, i, leader):
                            continue
                    tried += 1
                    similarity = jaccard_with(table, own, shingles[begins[leader] : ends[leader]], max(threshold, best))
                    if similarity > best:  # ties stay with the more preferred document, which comes first
                        best = similarity
                        best_leader = leader
            comparisons += tried
            if best_leader >= 0 and best >= threshold:
                kept_as[i] = best_leader
                jaccards[i] = best
            else:
                kept_as[i] = i
                leaders[count] = i
                count += 1
    return comparisons, capped


@njit(nogil=True, cache=True)
def _share_a_band(bands: U64, left: int, right: int) -> bool:
    for band in range(bands.shape[1]):  # noqa: SIM110 – numba compiles no generator expression
        if bands[left, band] == bands[right, band]:
            return True
    return False


@dataclass(frozen=True)
class Verified:
    """For each member the index of the document it is a duplicate of (itself: it stays), and their exact Jaccard."""

    kept_as: I64
    jaccards: F64
    comparisons: int
    capped: int  # members of giant components that were not compared with every kept document sharing a band


def verify(candidates: Candidates, settings: DedupSettings) -> Verified:
    """Apply the rule of this module to every component."""
    size = int(candidates.starts[-1])
    kept_as, jaccards = np.arange(size, dtype=np.int64), np.zeros(size)
    comparisons, capped = _walk(
        candidates.starts,
        candidates.fixed,
        candidates.bands,
        candidates.shingles,
        candidates.begins,
        candidates.ends,
        settings.threshold,
        settings.all_pairs_up_to,
        settings.max_comparisons,
        kept_as,
        jaccards,
    )
    return Verified(kept_as, jaccards, comparisons, capped)


def preference_order(
    component: I64, fixed: npt.NDArray[np.bool_], length: I64, content: U64, id_hash: U64, keep: str
) -> I64:
    """The order in which `verify` wants the members: by component, then from the most to the least preferred."""
    by_length = -length if keep == "longest" else length
    order: I64 = np.lexsort((id_hash, content, by_length, ~fixed, component))
    return order
