"""Pairs of a run's duplicates/ with both texts: what was removed, what it copies, and where the two differ.

Called by `inspect --duplicates` and by the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import pyarrow as pa
import pyarrow.compute as pc

from curation.finished_run import FinishedRun, lowest_hashes, part
from curation.marked_text import Span

COLUMNS = ("doc_id", "duplicate_of", "kind", "jaccard", "cluster_size", "row")
COMPARED_CHARS = 4_000  # of each text; comparing word by word grows with the square


@dataclass
class Pair:
    """A removed document and the one it copies."""

    doc_id: str
    duplicate_of: str
    kind: str
    jaccard: float
    cluster_size: int
    text: str = ""
    other: str | None = None  # None: the other document is in an earlier run


def duplicate_table(run: FinishedRun) -> pa.Table:
    """All rows of duplicates/, with the shard of each."""
    tables = []
    for shard in range(run.shards):
        if part("duplicates", shard) in run.listed:
            table = run.table(part("duplicates", shard), COLUMNS)
            tables.append(table.append_column("shard", pa.repeat(pa.scalar(shard, pa.int64()), table.num_rows)))
    names = [*COLUMNS, "shard"]
    return pa.concat_tables(tables) if tables else pa.table({name: pa.array([]) for name in names})


def pairs_at(run: FinishedRun, table: pa.Table, positions: Sequence[int]) -> list[Pair]:
    """The pairs at some rows of `duplicate_table`, with both texts."""
    rows = table.take(pa.array(positions, pa.int64())).to_pylist()
    texts: dict[tuple[int, int], str] = {}
    for shard in sorted({row["shard"] for row in rows}):
        at = [row["row"] for row in rows if row["shard"] == shard]
        for row, found in zip(at, run.documents_at(shard, at, ["text"]), strict=True):
            texts[shard, row] = found["text"]
    others = texts_of(run, {row["duplicate_of"] for row in rows}, {(row["shard"], row["row"]) for row in rows})
    return [
        Pair(
            row["doc_id"], row["duplicate_of"], row["kind"], row["jaccard"], row["cluster_size"],
            texts[row["shard"], row["row"]], others.get(row["duplicate_of"]),
        )
        for row in rows
    ]  # fmt: skip


def sample_pairs(run: FinishedRun, table: pa.Table, count: int, kind: str | None = None) -> list[Pair]:
    """The pairs of the smallest hashes, near duplicates alone when `kind` says so."""
    positions = pa.array(range(table.num_rows))
    if kind is not None:
        positions = positions.filter(pc.equal(table["kind"], kind))
    chosen = positions.to_pylist()
    ids = table["doc_id"].take(positions).to_pylist()
    return pairs_at(run, table, [chosen[i] for i in lowest_hashes(ids, count)])


def texts_of(run: FinishedRun, doc_ids: Iterable[str], avoid: Iterable[tuple[int, int]] = ()) -> dict[str, str]:
    """id → text, for the ids that are in this run; a row of `avoid` is passed over when another has the same id."""
    wanted = pa.array(sorted(set(doc_ids)), pa.string())
    avoided = set(avoid)
    found: dict[str, tuple[int, int]] = {}
    for shard in range(run.shards):
        ids = run.table(part("documents", shard), ["doc_id"])["doc_id"]
        if not len(ids):  # pyarrow's indices_nonzero crashes on an array without chunks
            continue
        rows = pc.indices_nonzero(pc.is_in(ids, value_set=wanted))
        for row, doc_id in zip(rows.to_pylist(), ids.take(rows).to_pylist(), strict=True):
            if doc_id not in found or found[doc_id] in avoided:
                found[doc_id] = (shard, row)
    texts = {}
    for shard in sorted({place[0] for place in found.values()}):
        here = sorted((row, doc_id) for doc_id, (at, row) in found.items() if at == shard)
        rows_here = [row for row, _ in here]
        for (_, doc_id), row_found in zip(here, run.documents_at(shard, rows_here, ["text"]), strict=True):
            texts[doc_id] = row_found["text"]
    return texts


def differences(text: str, other: str) -> tuple[list[Span], list[Span]]:
    """The words that only one of two texts has, as spans of each; the first 4,000 code points are compared."""
    left, right = _words(text[:COMPARED_CHARS]), _words(other[:COMPARED_CHARS])
    matcher = SequenceMatcher(None, [word for word, _, _ in left], [word for word, _, _ in right], autojunk=False)
    mine, theirs = [], []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        if b > a:
            mine.append(Span(left[a][1], left[b - 1][2], "only here"))
        if d > c:
            theirs.append(Span(right[c][1], right[d - 1][2], "only here"))
    return mine, theirs


def _words(text: str) -> list[tuple[str, int, int]]:
    words, position = [], 0
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        words.append((word, start, position))
    return words
