"""Who stays in a component too large to compare everybody with everybody: a template, a boilerplate frame.

The rule is that of `verify.py`: walk the documents from the most to the least preferred; one whose exact Jaccard with a
document that already stays reaches the threshold is a duplicate of the closest such document. What differs is with whom
a document is compared, so that the work grows with the number of members and memory does not:

1 only with kept documents in one of its buckets, those first that share most of its buckets;
2 with at most `comparisons_each` of them;
3 a bucket names the first `BUCKET_LEADERS` documents kept in it;
4 of kept documents, `LEADER_BYTES` of shingle sets are held.

A member for which 2, 3 or 4 left somebody out counts as capped: it may stay although it resembles a kept document that
it was not compared with. It is never removed without a comparison. Members come in pieces, so that a component may be
larger than memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from curation.dedup.settings import DedupSettings
from curation.dedup.verify import F64, jaccard_with
from curation.kernels.shingles import U64, fill_table, table_slots
from curation.kernels.text_batch import I64

I32 = npt.NDArray[np.int32]
# Two sets of 370 shingles are compared in 0.7 to 2 us, and a member of a component of 100,000 is settled in 13 us with
# so many comparisons, in 60 with 64; everything else that is done to a document of 2 KB takes 45.
LEAST_COMPARISONS = 8
COMPONENT_COMPARISONS = 1 << 18  # half a second of one core: up to this the settings' own cap holds alone
BUCKET_LEADERS = 64
LEADER_BYTES = 256 << 20  # 90,000 documents of 2 KB
_ONE = np.uint64(1)
# Places in the counters of a walk.
_LEADERS, _HELD, _ENTRIES, _COMPARISONS, _CAPPED, _LEFT_OUT = range(6)


@dataclass(frozen=True)
class Piece:
    """Members of one component that follow those of the piece before, in order of preference."""

    fixed: npt.NDArray[np.bool_]  # kept by an earlier run: always stays
    bands: U64  # (members, bands)
    shingles: U64  # flat; member i is `shingles[begins[i]:ends[i]]`, each once
    begins: I64
    ends: I64


def comparisons_each(members: int, settings: DedupSettings) -> int:
    """With how many kept documents a member is compared at most: fewer the more members there are."""
    return min(settings.max_comparisons, max(LEAST_COMPARISONS, COMPONENT_COMPARISONS // max(1, members)))


@njit(nogil=True, cache=True, inline="always")
def _slot(value: int, keys: U64, heads: I32) -> int:
    """Where `value` stands in the table of buckets, or the free slot where it would."""
    mask = np.uint64(keys.shape[0] - 1)
    slot = np.uint64(value) & mask
    while heads[slot] >= 0 and keys[slot] != value:
        slot = (slot + _ONE) & mask
    return np.int64(slot)  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _tally(bands: U64, buckets: tuple[U64, I32, I32, I32], entries: tuple[I32, I32], shared: I32, found: I32) -> int:
    """Put the kept documents in these buckets to `found`, the number of buckets in `shared`; returns how many.

    Negative, less one, when a bucket could not name all.
    """
    keys, heads, _, sizes = buckets
    leaders, following = entries
    count = 0
    overfull = False
    for band in range(bands.shape[0]):
        slot = _slot(bands[band], keys, heads)
        if heads[slot] < 0:
            continue
        overfull |= sizes[slot] > BUCKET_LEADERS
        entry = heads[slot]
        while entry >= 0:
            leader = leaders[entry]
            if shared[leader] == 0:
                found[count] = leader
                count += 1
            shared[leader] += 1
            entry = following[entry]
    return -count - 1 if overfull else count


@njit(nogil=True, cache=True)
def _enter(bands: U64, leader: int, buckets: tuple[U64, I32, I32, I32], entries: tuple[I32, I32], used: int) -> int:
    """Name `leader` in its buckets; returns how many entries are in use then."""
    keys, heads, tails, sizes = buckets
    leaders, following = entries
    for band in range(bands.shape[0]):
        slot = _slot(bands[band], keys, heads)
        if heads[slot] >= 0 and sizes[slot] >= BUCKET_LEADERS:
            sizes[slot] = BUCKET_LEADERS + 1
            continue
        leaders[used] = leader
        following[used] = -1
        if heads[slot] < 0:
            keys[slot] = bands[band]
            heads[slot] = used
            sizes[slot] = 0
        else:
            following[tails[slot]] = used
        tails[slot] = used
        sizes[slot] += 1
        used += 1
    return used


@njit(nogil=True, cache=True)
def _closest(
    table: U64, own: int, found: I32, shared: I32, bounds: I64, held: U64, threshold: float, most: int
) -> tuple[int, float, int]:
    """The closest of the documents `found` at or above `threshold` (or -1), its Jaccard, and how many were compared.

    At most `most` are, those first that share most buckets. Of equals the more preferred one, whose number is smaller.
    """
    best, nearest, tried = 0.0, -1, 0
    wanted = 0
    for leader in found:
        wanted = max(wanted, shared[leader])
    while wanted > 0 and tried < most:
        below = 0
        for leader in found:
            if shared[leader] != wanted:
                below = max(below, shared[leader] if shared[leader] < wanted else 0)
                continue
            if tried == most:
                break
            tried += 1
            other = held[bounds[leader] : bounds[leader + 1]]
            similarity = jaccard_with(table, own, other, max(threshold, best))
            if similarity > best or (similarity == best and similarity > 0.0 and leader < nearest):
                best = similarity
                nearest = leader
        wanted = below
    return nearest, best, tried


@njit(nogil=True, cache=True)
def _walk(
    fixed: npt.NDArray[np.bool_],
    bands: U64,
    shingles: U64,
    begins: I64,
    ends: I64,
    first: int,
    threshold: float,
    most: int,
    limit: int,
    leaders: tuple[U64, I64, I64],
    buckets: tuple[U64, I32, I32, I32],
    entries: tuple[I32, I32],
    counters: I64,
    kept_as: I64,
    jaccards: F64,
) -> None:
    held, bounds, numbers = leaders
    longest = 0
    for i in range(begins.shape[0]):
        longest = max(longest, ends[i] - begins[i])
    scratch = np.empty(table_slots(longest), np.uint64)
    ignored = np.empty(longest, np.uint64)
    found = np.empty(bands.shape[1] * BUCKET_LEADERS, np.int32)
    shared = np.zeros(numbers.shape[0], np.int32)
    for i in range(begins.shape[0]):
        own = ends[i] - begins[i]
        nearest, best = -1, 0.0
        if not fixed[i]:
            count = _tally(bands[i], buckets, entries, shared, found)
            left_out = count < 0 or counters[_LEFT_OUT] > 0
            count = -count - 1 if count < 0 else count
            tried = 0
            if count:
                table = scratch[: table_slots(own)]
                fill_table(shingles[begins[i] : ends[i]], table, ignored)
                nearest, best, tried = _closest(table, own, found[:count], shared, bounds, held, threshold, most)
            counters[_COMPARISONS] += tried
            counters[_CAPPED] += left_out or tried < count
            for k in range(count):
                shared[found[k]] = 0
        if nearest >= 0:
            kept_as[i] = numbers[nearest]
            jaccards[i] = best
            continue
        kept_as[i] = first + i
        if counters[_HELD] + own > limit:
            counters[_LEFT_OUT] += 1
            continue
        leader = counters[_LEADERS]
        held[counters[_HELD] : counters[_HELD] + own] = shingles[begins[i] : ends[i]]
        counters[_HELD] += own
        bounds[leader + 1] = counters[_HELD]
        numbers[leader] = first + i
        counters[_ENTRIES] = _enter(bands[i], leader, buckets, entries, counters[_ENTRIES])
        counters[_LEADERS] += 1


@njit(nogil=True, cache=True)
def _move(old: tuple[U64, I32, I32, I32], new: tuple[U64, I32, I32, I32]) -> None:
    for slot in range(old[0].shape[0]):
        if old[1][slot] >= 0:
            to = _slot(old[0][slot], new[0], new[1])
            new[0][to] = old[0][slot]
            new[1][to] = old[1][slot]
            new[2][to] = old[2][slot]
            new[3][to] = old[3][slot]


def _empty_buckets(slots: int) -> tuple[U64, I32, I32, I32]:
    """(bucket, first entry or -1, last entry, entries) of each slot; open addressing, a power of two of them."""
    tails, sizes = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
    return np.zeros(slots, np.uint64), np.full(slots, -1, np.int32), tails, sizes


def _longer(array: Any, size: int) -> Any:
    """`array` with room for `size`: what it holds, and unset places behind it."""
    if size <= len(array):
        return array
    new = np.empty(size, array.dtype)
    new[: len(array)] = array
    return new


class LargeComponent:
    """The walk over one component, piece by piece."""

    def __init__(self, members: int, settings: DedupSettings, leader_bytes: int = LEADER_BYTES) -> None:
        """Args: members: of the whole component. leader_bytes: of shingle sets that are held."""
        self._most, self._threshold = comparisons_each(members, settings), settings.threshold
        self._limit = leader_bytes // 8
        self._seen = 0
        self._counters = np.zeros(6, np.int64)
        self._leaders = (np.zeros(0, np.uint64), np.zeros(1, np.int64), np.zeros(0, np.int64))
        self._entries = (np.zeros(0, np.int32), np.zeros(0, np.int32))
        self._buckets = _empty_buckets(16)

    @property
    def comparisons(self) -> int:
        return int(self._counters[_COMPARISONS])

    @property
    def capped(self) -> int:
        """Members that were not compared with every kept document in their buckets."""
        return int(self._counters[_CAPPED])

    def walk(self, piece: Piece) -> tuple[I64, F64]:
        """Settle the next members.

        Returns:
            For each the number in the component of the document it duplicates (its own: it stays), and their Jaccard.
        """
        size = len(piece.begins)
        self._make_room(size, int((piece.ends - piece.begins).sum()), piece.bands.shape[1])
        kept_as, jaccards = np.empty(size, np.int64), np.zeros(size)
        _walk(
            piece.fixed,
            piece.bands,
            piece.shingles,
            piece.begins,
            piece.ends,
            self._seen,
            self._threshold,
            self._most,
            self._limit,
            self._leaders,
            self._buckets,
            self._entries,
            self._counters,
            kept_as,
            jaccards,
        )
        self._seen += size
        return kept_as, jaccards

    def _make_room(self, members: int, shingles: int, bands: int) -> None:
        """For the case that all members of the next piece stay."""
        held, bounds, numbers = self._leaders
        leaders = int(self._counters[_LEADERS]) + members
        self._leaders = (
            _longer(held, min(self._limit, int(self._counters[_HELD]) + shingles)),
            _longer(bounds, leaders + 1),
            _longer(numbers, leaders),
        )
        entries = int(self._counters[_ENTRIES]) + members * bands
        self._entries = (_longer(self._entries[0], entries), _longer(self._entries[1], entries))
        if 2 * entries > len(self._buckets[0]):
            new = _empty_buckets(1 << (2 * entries - 1).bit_length())
            _move(self._buckets, new)
            self._buckets = new
