"""The end of pass 2, when some arm asks for it: work/lines/ of all shards → work/line_verdicts/ of all shards.

1 number   one range of line hashes at a time: packed (hash, line key, rank, weight) → GroupByKey over partitions → the
           number of each copy → GroupByKey over shards → one file a shard and range;
2 finish   per shard: the lines that are not the first of their kind, with their places.

It runs when the verdict on documents is known: lines of documents that stay come before those of their copies.
A shard sends at most `keep` copies of a line, since the others cannot be among the first `keep` of the corpus: a line
that stands on every page costs one row a shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs import io, layout
from beam_jobs.context import RunContext, load_context
from beam_jobs.dedup import content_hash
from beam_jobs.packed import PackByPartition, pack, unpack
from beam_jobs.runners import RunnerSettings, Task, run_pipeline, run_tasks, spread_tasks
from curation.dedup.candidates import row_keys, row_of, shard_of
from curation.dedup.lines import document_ranks, number_copies, stays
from curation.filters.columns import ratio, spans_column
from curation.kernels.line_hashes import LineHashes
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

# Rows of one range of hashes: 32 bytes each packed, and the local runner holds a shuffle 4 to 5 times.
LINES_A_GROUP = 4_000_000
PARTITION_ROWS = 250_000  # rows of a shuffle partition: 8 MB packed
MOST_FREQUENT = 10  # lines named in the statistics
WORK = "work/dedup/lines"

LINES = pa.schema(
    [
        pa.field("hash", pa.uint64()),
        pa.field("row", pa.int32()),  # of the shard
        pa.field("start", pa.int32()),  # code points
        pa.field("end", pa.int32()),
        pa.field("chars", pa.int32()),
    ]
)
LINE_VERDICTS = pa.schema([*list(LINES)[1:], pa.field("number", pa.int32())])


def line_rows(found: LineHashes, first_row: int) -> pa.Table:
    """The rows of `LINES` for a batch whose first document is row `first_row` of its shard."""
    columns = [found.hashes, found.rows + np.int32(first_row), found.starts, found.ends, found.chars]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=LINES)


class _EmitLines(beam.DoFn):  # type: ignore[misc]
    """lines shard → (bucket, line key, rank, weight) of the lines of one range of hashes."""

    def __init__(self, group: int, bits: int, keep: int) -> None:
        self.group, self.bits, self.keep = group, bits, keep

    def process(self, lane: tuple[int, Iterable[bytes]]) -> Iterator[tuple[U64, ...]]:
        for line in lane[1]:
            task = json.loads(line)
            hashes, keys, ranks = read_lines(task["run"], task["shard"])
            if self.bits:
                chosen = np.flatnonzero(hashes >> np.uint64(64 - self.bits) == self.group)
                hashes, keys, ranks = hashes[chosen], keys[chosen], ranks[chosen]
            copies = number_copies(hashes, ranks, keys, stays(ranks).astype(np.int64))
            sent = np.flatnonzero(copies.numbers < self.keep)
            # Inside a range the upper bits are all the same: what is left tells lines apart, and spreads them evenly.
            buckets = hashes[sent] << np.uint64(self.bits)
            yield buckets, keys[sent], ranks[sent], copies.counts[sent].astype(np.uint64)


class _NumberCopies(beam.DoFn):  # type: ignore[misc]
    """partition of rows → (shard, packed (line key, number)) of the lines that are not the first of their kind."""

    def __init__(self, target: str) -> None:
        self.target = target

    def process(self, partition: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        buckets, keys, ranks, weights = unpack(partition[1], 4)
        copies = number_copies(buckets, ranks, keys, weights.astype(np.int64))
        first = np.flatnonzero(copies.numbers == 0)
        counts = copies.counts[first]
        often = first[np.lexsort((buckets[first], -counts))[:MOST_FREQUENT]]
        with io.writing(f"{self.target}-stats-{partition[0]:05d}.json") as out:
            stats = {
                "lines": int(counts.sum()),
                "repeated": int((counts > 1).sum()),
                "further_copies": int(np.maximum(counts - 1, 0).sum()),
                "most_frequent": [
                    [int(copies.counts[i]), int(buckets[i]), int(keys[i])] for i in often if copies.counts[i] > 1
                ],
            }
            out.write(json.dumps(stats).encode())
        later = np.flatnonzero(copies.numbers)
        later = later[np.argsort(keys[later])]
        shards = shard_of(keys[later])
        for shard in np.unique(shards).tolist():
            at = later[np.searchsorted(shards, shard) : np.searchsorted(shards, shard + 1)]
            yield shard, pack(keys[at], copies.numbers[at].astype(np.uint64))


class _WriteNumbers(beam.DoFn):  # type: ignore[misc]
    """(shard, packed rows) → a file of line keys and numbers."""

    def __init__(self, target: str) -> None:
        self.target = target

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        keys, numbers = unpack(shard[1])
        with io.writing(f"{self.target}-shard-{shard[0]:05d}.npy") as stream:
            np.save(stream, np.stack((keys, numbers)))
        yield len(keys)


def read_lines(run: str, shard: int) -> tuple[U64, U64, U64]:
    """Hash, line key, and rank of the document of every line of a shard."""
    index = _read(run, layout.index(shard), ["id_hash", "sha256"])
    is_copy = np.zeros(index.num_rows, bool)
    is_copy[_read(run, layout.duplicates(shard), ["row"])["row"].to_numpy()] = True
    ranks = document_ranks(index["id_hash"].to_numpy(), content_hash(index["sha256"])[:, 0], is_copy)
    table = _read(run, layout.lines(shard), ["hash", "row"])
    return table["hash"].to_numpy(), row_keys(shard, np.arange(table.num_rows)), ranks[table["row"].to_numpy()]


def _read(run: str, path: str, columns: list[str]) -> pa.Table:
    with io.BeamOpener().open(io.join(run, path)) as stream:
        return pq.ParquetFile(stream).read(columns=columns)


def run_line_dedup(context: RunContext, lines: Mapping[int, int], runner: RunnerSettings) -> dict[str, Any]:
    """Both steps; returns their statistics, and `files`. Deterministic, as `run_dedup` is.

    Args:
        lines: shard → rows of its work/lines/ file.
    """
    tasks: list[Task] = [{"run": context.run, "shard": s, "weight": n + 1} for s, n in sorted(lines.items())]
    total = sum(lines.values())
    bits = (max(0, total - 1) // LINES_A_GROUP).bit_length()
    partitions = 1 << min(16, ((total >> bits) // PARTITION_ROWS).bit_length())
    for group in range(1 << bits):
        target = io.join(context.run, f"{WORK}-{group:05d}")

        def build(pipeline: Any, group: int = group, target: str = target) -> None:
            _ = (
                spread_tasks(pipeline, "lines", context.run, tasks, runner)
                | "Lines" >> beam.ParDo(_EmitLines(group, bits, context.copies_kept))
                | "Pack" >> beam.ParDo(PackByPartition(partitions)).with_output_types(tuple[int, bytes])
                | "By hash" >> beam.GroupByKey()
                | "Number" >> beam.ParDo(_NumberCopies(target)).with_output_types(tuple[int, bytes])
                | "By shard" >> beam.GroupByKey()
                | "Write" >> beam.ParDo(_WriteNumbers(target))
            )

        if total:
            run_pipeline("lines", build, runner.pipeline(python_heavy=False))
    run_tasks("line_verdicts", context.run, tasks, "beam_jobs.line_dedup:finish_shard", {}, runner, False)
    stats = _statistics(context, 1 << bits)
    stats["files"] = [io.read_json(io.join(context.run, f"{WORK}-file-{shard:05d}.json")) for shard in sorted(lines)]
    io.remove_tree(io.join(context.run, "work/dedup"))
    return stats


def finish_shard(task: Task, _: dict[str, Any]) -> None:
    """Step 2 for one shard: rows in reading order."""
    context, shard = load_context(task["run"]), int(task["shard"])
    hashes, keys, ranks = read_lines(context.run, shard)
    keep = context.copies_kept
    here = number_copies(hashes, ranks, keys, np.zeros(len(keys), np.int64)).numbers
    numbers = np.where(here >= keep, keep, 0)  # never sent: more than enough copies of this shard come before
    for uri in io.match(io.join(context.run, f"{WORK}-*-shard-{shard:05d}.npy")):
        with io.BeamOpener().open(uri) as stream:
            found = np.load(stream)
        numbers[row_of(found[0])] = np.minimum(found[1], keep)
    at = np.flatnonzero(numbers)
    places = _read(context.run, layout.lines(shard), ["row", "start", "end", "chars"]).take(pa.array(at))
    table = pa.Table.from_arrays([*places.columns, pa.array(numbers[at], pa.int32())], schema=LINE_VERDICTS)
    with io.parquet_shards(context.run, {"v": (layout.line_verdicts(shard), LINE_VERDICTS)}) as out:
        out["v"].write(table.combine_chunks())
        written = out["v"].close().plain()
    io.write_json(io.join(context.run, f"{WORK}-file-{shard:05d}.json"), written)


def _statistics(context: RunContext, groups: int) -> dict[str, Any]:
    """Counts over documents that stay, and where the most frequent lines stand first: never their text."""
    stats: dict[str, Any] = {"lines": 0, "repeated": 0, "further_copies": 0}
    often: list[tuple[int, int, int, int]] = []
    for group in range(groups):
        for uri in io.match(io.join(context.run, f"{WORK}-{group:05d}-stats-*.json")):
            found = io.read_json(uri)
            for name in ("lines", "repeated", "further_copies"):
                stats[name] += found[name]
            often += [(-count, group, bucket, key) for count, bucket, key in found["most_frequent"]]
    stats["most_frequent"] = [_place(context, key, -count) for count, _, _, key in sorted(often)[:MOST_FREQUENT]]
    return stats


def _place(context: RunContext, key: int, copies: int) -> dict[str, Any]:
    shard, number = key >> 32, key & 0xFFFFFFFF
    line = _read(context.run, layout.lines(shard), ["row", "start", "end"]).slice(number, 1).to_pylist()[0]
    doc_id = _read(context.run, layout.index(shard), ["doc_id"])["doc_id"][line["row"]].as_py()
    return {"copies": copies, "doc_id": doc_id, "start": line["start"], "end": line["end"]}


class LineVerdicts:
    """What the pass found in one shard, as columns of signals."""

    def __init__(self, context: RunContext, shard: int) -> None:
        self.rules = context.line_rules
        if self.rules:
            table = _read(context.run, layout.line_verdicts(shard), LINE_VERDICTS.names)
            self.columns: dict[str, I64] = {name: table[name].to_numpy() for name in table.column_names}

    def signals(self, texts: pa.Array, first: int) -> dict[str, pa.Array]:
        """Columns of every `line_dedup` rule for the documents with these texts, the first of which is row `first`."""
        signals: dict[str, pa.Array] = {}
        for rule in self.rules:
            begin, end = np.searchsorted(self.columns["row"], [first, first + len(texts)])
            part = {name: column[begin:end] for name, column in self.columns.items()}
            cut = (part["chars"] >= rule.settings.min_chars) & (part["number"] >= rule.settings.keep)
            rows, starts, ends = part["row"][cut] - first, part["start"][cut], part["end"][cut]
            size = np.bincount(rows, weights=ends - starts, minlength=len(texts))
            whole = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
            labels = np.zeros(len(rows), np.int32)
            signals[f"{rule.prefix}.repeated_lines"] = pa.array(np.bincount(rows, minlength=len(texts)))
            signals[f"{rule.prefix}.repeated_fraction"] = pa.array(ratio(size, whole))
            signals[f"{rule.prefix}.spans"] = spans_column(len(texts), rows, starts, ends, labels, ("LINE",))
        return signals
