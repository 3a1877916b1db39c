"""What the duplicate search over made-up signatures found, against what was planted and against brute force.

1 Exact copies: as many as were planted.
2 Near copies that are nobody else's affair: the share found is that of the curve of 14 bands of 8 rows, and none below
  the threshold.
3 A sample of documents: their whole clusters, by looking for their buckets in all of the corpus, over and over until
  nothing new is met; and who of each stays, by the rule of `curation/dedup/verify.py` over Python sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.scale_signatures import COPY, EDITED, FRESH, MOST_REPLACED, SETTINGS, SHARD, SIZE, hash_all, made
from curation.dedup.curve import match_probability
from curation.kernels.shingles import band_hashes, permutations

MARK_SHIFT = np.uint64(44)


def number_of(keys: Any) -> Any:
    """Document numbers of row keys."""
    keys = np.asarray(keys, np.uint64)
    return ((keys >> np.uint64(32)) * np.uint64(SHARD) + (keys & np.uint64(0xFFFFFFFF))).astype(np.int64)


def index_columns(run: Path) -> Iterator[tuple[int, str, Any]]:
    """(first document, column, values) of every index file and every column that proposes pairs."""
    from beam_jobs.bands import content_hash

    names = ["sha256", *(f"band_{band:03d}" for band in range(SETTINGS.bands))]
    for path in sorted((run / "index").iterdir()):
        first = int(path.stem.rsplit("-", 1)[1]) * SHARD
        table = pq.read_table(path, columns=names)
        for name in names:
            yield first, name, content_hash(table[name])[:, 0] if name == "sha256" else table[name].to_numpy()


def whole_clusters(run: Path, documents: int, sample: Any) -> list[set[int]]:
    """The clusters of the sampled documents, by looking for their buckets in all of the corpus until nothing is new."""
    buckets: dict[str, dict[int, set[int]]] = {}
    members: set[int] = set()
    new = {int(n) for n in sample}
    while new:
        members |= new
        wanted: dict[str, Any] = {
            name: np.unique(values) for name, values in buckets_of(sorted(members), documents).items()
        }
        marks = {name: marked(values) for name, values in wanted.items()}
        for first, name, values in index_columns(run):
            maybe = np.flatnonzero(marks[name][values >> MARK_SHIFT])
            hit = maybe[np.isin(values[maybe], wanted[name])]
            for row in hit.tolist():
                buckets.setdefault(name, {}).setdefault(int(values[row]), set()).add(first + row)
        met = {n for found in buckets.values() for group in found.values() for n in group}
        new = met - members
    neighbours: dict[int, set[int]] = {n: {n} for n in members}
    for found in buckets.values():
        for group in found.values():
            for n in group:
                neighbours[n] |= group
    clusters, seen = [], set()
    for start in sorted(members):
        if start in seen:
            continue
        reached, front = {start}, [start]
        while front:
            more = neighbours[front.pop()] - reached
            reached |= more
            front += sorted(more)
        seen |= reached
        clusters.append(reached)
    return clusters


def marked(values: Any) -> Any:
    """For every upper 20 bits whether one of `values` has them."""
    table = np.zeros(1 << 20, bool)
    table[values >> MARK_SHIFT] = True
    return table


def buckets_of(numbers: list[int], documents: int) -> dict[str, Any]:
    """Column → hashes of these documents, made again from their sets."""
    words, content, _, _ = made(np.array(numbers), documents)
    a, b = permutations(SETTINGS.permutations, SETTINGS.seed)
    hashed = words.copy()
    hash_all(hashed.reshape(-1))
    low = (hashed >> np.uint64(32)).astype(np.uint32)
    # datasketch's affine32 over the upper halves, a straightforward copy of its definition.
    low ^= low >> np.uint32(16)
    low *= np.uint32(0x85EBCA6B)
    low ^= low >> np.uint32(13)
    low *= np.uint32(0xC2B2AE35)
    low ^= low >> np.uint32(16)
    signatures = np.stack([(low * a[i] + b[i]).min(axis=1) for i in range(len(a))], axis=1)
    bands = band_hashes(signatures, SETTINGS.bands, SETTINGS.rows)
    return {"sha256": content[:, 0], **{f"band_{band:03d}": bands[:, band] for band in range(SETTINGS.bands)}}


def settle(cluster: set[int], documents: int) -> dict[int, tuple[int, str, float]]:
    """Who of a cluster goes: document → (what it copies, kind, Jaccard), by the rule over Python sets."""
    numbers = sorted(cluster)
    words, content, length, _ = made(np.array(numbers), documents)
    id_hash = {n: (n * 0x9E3779B97F4A7C15) % 2**64 for n in numbers}
    docs = {n: (set(words[i].tolist()), tuple(content[i].tolist()), int(length[i])) for i, n in enumerate(numbers)}
    removed: dict[int, tuple[int, str, float]] = {}
    stands: list[int] = []
    by_content: dict[tuple[int, ...], list[int]] = {}
    for n in numbers:
        by_content.setdefault(docs[n][1], []).append(n)
    for group in by_content.values():
        first, *others = sorted(group, key=lambda n: id_hash[n])
        stands.append(first)
        removed |= dict.fromkeys(others, (first, "exact", 1.0))
    stays: list[int] = []
    for n in sorted(stands, key=lambda n: (-docs[n][2], docs[n][1][0], id_hash[n])):
        like = [(len(docs[n][0] & docs[k][0]) / len(docs[n][0] | docs[k][0]), -i) for i, k in enumerate(stays)]
        best, place = max(like, default=(0.0, 0))
        if best >= SETTINGS.threshold:
            removed[n] = (stays[-place], "near", best)
        else:
            stays.append(n)
    return removed


def check(run: Path, documents: int, sample_size: int) -> dict[str, Any]:
    """Everything the pass said, against what was planted and against brute force. Raises AssertionError."""
    found = {name: np.concatenate(columns) for name, columns in _duplicates(run).items()}
    planted = _planted(documents)
    stats: dict[str, Any] = {"exact_planted": planted["exact"], "exact_found": int((found["kind"] == "exact").sum())}
    assert stats["exact_planted"] == stats["exact_found"]
    gone = np.zeros(documents, bool)
    gone[found["doc"]] = True
    for replaced in range(1, MOST_REPLACED + 1):
        pairs = planted["pairs"][replaced]
        similarity = (SIZE - replaced) / (SIZE + replaced)
        share = float((gone[pairs[:, 0]] | gone[pairs[:, 1]]).mean()) if len(pairs) else 0.0
        expected = (
            match_probability(similarity, SETTINGS.bands, SETTINGS.rows) if similarity >= SETTINGS.threshold else 0.0
        )
        stats[f"near_{similarity:.2f}"] = {"pairs": len(pairs), "found": share, "expected": expected}
        # Five standard deviations of a share, and what 32-bit hashes collide.
        assert abs(share - expected) < 5 * np.sqrt(0.25 / max(1, len(pairs))) + 1e-3
    with np.load(run / "components.npz") as kept:
        keys, component = kept["keys"], kept["component"]
    numbers = number_of(keys)
    rng = np.random.default_rng(0)
    sample = np.unique(np.concatenate((rng.choice(numbers, sample_size), rng.integers(documents, size=sample_size))))
    clusters = whole_clusters(run, documents, sample)
    sizes = np.bincount(component, minlength=len(component))
    doc_order = np.argsort(found["doc"])
    for cluster in clusters:
        members = np.array(sorted(cluster))
        at = np.searchsorted(numbers, members)
        known = (at < len(numbers)) & (numbers[np.minimum(at, len(numbers) - 1)] == members)
        assert known.all() if len(cluster) > 1 else not known.any(), sorted(cluster)
        if len(cluster) > 1:
            roots = np.unique(component[at])
            assert len(roots) == 1, sorted(cluster)
            assert sizes[roots[0]] == len(cluster), sorted(cluster)
        expected = settle(cluster, documents)
        place = np.searchsorted(found["doc"], members, sorter=doc_order)
        place = doc_order[np.minimum(place, len(doc_order) - 1)]
        hits = place[found["doc"][place] == members]
        actual = {
            int(found["doc"][i]): (int(found["of"][i]), str(found["kind"][i]), float(found["jaccard"][i])) for i in hits
        }
        assert actual == expected, (actual, expected)
    stats["sampled_documents"] = len(sample)
    stats["sampled_clusters"] = len(clusters)
    stats["documents_in_them"] = sum(map(len, clusters))
    stats["largest_sampled"] = max(map(len, clusters))
    return stats


def _duplicates(run: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"doc": [], "of": [], "kind": [], "jaccard": []}
    for path in sorted((run / "duplicates").iterdir()):
        table = pq.read_table(path)
        columns["doc"].append(pc.cast(table["doc_id"], pa.int64()).to_numpy())
        columns["of"].append(pc.cast(table["duplicate_of"], pa.int64()).to_numpy())
        columns["kind"].append(np.array(table["kind"].to_pylist(), dtype="U5"))
        columns["jaccard"].append(table["jaccard"].to_numpy())
    return columns


def _planted(documents: int) -> dict[str, Any]:
    """How many exact copies there are; and (copy, origin) of near copies whose origin nobody else copies, by edits."""
    exact, pairs, copied = 0, [], np.zeros(documents, np.uint8)
    for first in range(0, documents, 10 * SHARD):
        numbers = np.arange(first, min(documents, first + 10 * SHARD))
        planted = made(numbers, documents)[3]
        exact += int((planted[:, 0] == COPY).sum())
        copies = np.flatnonzero(planted[:, 0] != FRESH)
        np.add.at(copied, planted[copies, 1], np.uint8(1))
        edited = np.flatnonzero(planted[:, 0] == EDITED)
        pairs.append(np.column_stack((numbers[edited], planted[edited, 1], planted[edited, 2])))
    found = np.concatenate(pairs)
    alone = found[copied[found[:, 1]] == 1]
    return {"exact": exact, "pairs": {k: alone[alone[:, 2] == k] for k in range(1, MOST_REPLACED + 1)}}
