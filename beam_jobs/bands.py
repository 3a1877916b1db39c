"""Pass 2, step 1: index/ of all shards → edges between documents that share a bucket, on disk.

On one machine a task scans one column of hashes of every shard, one range of hashes at a time: what it holds is bounded
whatever the corpus, and nothing is shuffled. Elsewhere the same rows go packed through a GroupByKey over partitions.
Both write the same set of edges; how they are cut into files leaves no trace (`read_components`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs import io
from beam_jobs.context import RunContext
from beam_jobs.packed import FLUSH_ROWS, PackByPartition, unpack
from beam_jobs.runners import RunnerSettings, Task, run_pipelines, run_tasks, spread_tasks
from curation.dedup.candidates import bucket_edges, components, row_keys
from curation.dedup.repeats import maybe_repeated
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

EXACT = "sha256"  # the column whose buckets are exact duplicates
# Rows of one range on one machine: a task holds about 30 bytes a row, 500 MB. Each range reads the column again.
SCANNED_ROWS = 16_000_000
# Rows of a shuffle partition: 1 MB packed, and no piece is much more: Flink refuses records above its sort buffer.
PARTITION_ROWS = 1 << 16
# Rows of a piece, what a lane sends to a partition at once: with fewer, what Beam adds to a piece (some 20 bytes, and
# microseconds of Python) begins to show.
PIECE_ROWS = 200
MOST_PARTITIONS = 1 << 14  # of `FLUSH_ROWS` rows: 122 a piece
# Beyond this many rows a partition would hold more than 128 MB: the bands are then sent in several pipelines.
SHUFFLED_ROWS = MOST_PARTITIONS * 8_000_000
# Edges read before they are reduced to one a document (16 bytes each; reducing holds about 80).
EDGES_AT_ONCE = 8_000_000


@dataclass(frozen=True)
class IndexShard:
    """One file of hashes: of this run, or of an earlier run it is deduplicated against."""

    number: int
    uri: str
    documents_uri: str
    rows: int
    fixed: bool
    # Of an earlier run: its duplicates are not kept, so nothing is compared with them.
    duplicates_uri: str | None = None

    def buckets(self, columns: Sequence[str]) -> Iterator[U64]:
        """The bucket of every row of `self.counting()`, column by column."""
        with io.parquet_file(self.uri) as file:
            table = file.read(columns=list(columns))
        counting = self.counting()
        for name in columns:
            found = content_hash(table[name])[:, 0] if name == EXACT else table[name].to_numpy()
            yield found if counting is None else found[counting]

    def counting(self) -> I64 | None:
        """The rows that count; None: all."""
        if self.duplicates_uri is None:
            return None
        with io.parquet_file(self.duplicates_uri) as file:
            return np.setdiff1d(np.arange(self.rows), file.read(columns=["row"])["row"].to_numpy())

    def keys(self) -> U64:
        """The row keys of `self.counting()`."""
        counting = self.counting()
        return row_keys(self.number, np.arange(self.rows) if counting is None else counting)


def content_hash(column: Any) -> U64:
    """The first 128 bits of the sha256 column as two 64-bit numbers, shape (rows, 2)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.zeros((0, 2), np.uint64)
    raw = np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, 32)[array.offset : array.offset + len(array)]
    return np.ascontiguousarray(raw[:, :16]).view(np.uint64)


def band_columns(context: RunContext) -> list[str]:
    """The columns of index/ whose equal values propose a pair."""
    settings = context.job.dedup
    return [EXACT] + [f"band_{band:03d}" for band in range(settings.bands if settings.near else 0)]


def band_edges(context: RunContext, shards: Sequence[IndexShard], runner: RunnerSettings) -> None:
    """Write the edges of all buckets to work/dedup/edges-*.npy."""
    shards = [shard for shard in shards if shard.rows]
    if shards:
        (_scan if runner.is_local else _shuffle)(context, shards, runner)


def hash_ranges(rows: int, most: int) -> int:
    """Bits of the hash that cut `rows` rows into ranges of about `most` rows at most."""
    return max(0, -(-rows // most) - 1).bit_length()


def _scan(context: RunContext, shards: Sequence[IndexShard], runner: RunnerSettings) -> None:
    listing = io.join(context.run, "work/dedup/index.json")
    io.write_json(listing, [asdict(shard) for shard in shards])
    bits = hash_ranges(sum(shard.rows for shard in shards), SCANNED_ROWS)
    tasks: list[Task] = [
        {
            "shards": listing,
            "column": column,
            "bits": bits,
            "range": part,
            "target": io.join(context.run, f"work/dedup/edges-{column}-{part:05d}.npy"),
            "weight": 1,
        }
        for column in band_columns(context)
        for part in range(1 << bits)
    ]
    run_tasks("bands", context.run, tasks, "beam_jobs.bands:scan_range", {}, runner, False)


def scan_range(task: Task, _: dict[str, Any]) -> None:
    """The edges of one column and one range of its hashes."""
    shards = [IndexShard(**plain) for plain in io.read_json(task["shards"])]
    buckets, places = [np.zeros(0, np.uint64)], []
    for shard in shards:
        (found,) = shard.buckets([task["column"]])
        place = None
        if task["bits"]:
            place = np.flatnonzero(found >> np.uint64(64 - task["bits"]) == task["range"]).astype(np.uint32)
            found = found[place]
        buckets.append(found)
        places.append(place)
    begins = np.cumsum([len(found) for found in buckets])
    whole = np.concatenate(buckets)
    del buckets
    chosen = maybe_repeated(whole)
    keys = [np.zeros(0, np.uint64)]
    for shard, place, begin, end in zip(shards, places, begins[:-1], begins[1:], strict=True):
        at = chosen[slice(*np.searchsorted(chosen, [begin, end]))] - begin
        counting = shard.counting()
        rows = at if place is None else place[at]
        keys.append(row_keys(shard.number, rows if counting is None else counting[rows]))
    _write_edges(task["target"], bucket_edges(whole[chosen], np.concatenate(keys)))


def _write_edges(uri: str, edges: tuple[U64, U64]) -> None:
    if len(edges[0]):
        with io.writing(uri) as stream:
            np.save(stream, np.stack(edges))


class _EmitBands(beam.DoFn):  # type: ignore[misc]
    """index shard → (bucket, row key) rows of some bands, of one range of hashes."""

    def __init__(self, columns: tuple[str, ...], bits: int, part: int) -> None:
        self.columns, self.bits, self.part = columns, bits, part

    def process(self, lane: tuple[int, Iterable[bytes]]) -> Iterator[tuple[U64, U64]]:
        for line in lane[1]:
            shard = IndexShard(**json.loads(line)["shard"])
            keys = shard.keys()
            for buckets in shard.buckets(self.columns):
                if not self.bits:
                    yield buckets, keys
                    continue
                chosen = np.flatnonzero(buckets >> np.uint64(64 - self.bits) == self.part)
                # Inside a range the upper bits are all the same: what is left spreads the rows over the partitions.
                yield buckets[chosen] << np.uint64(self.bits), keys[chosen]


class _BucketEdges(beam.DoFn):  # type: ignore[misc]
    """partition of (bucket, row key) rows → a file of edges."""

    def __init__(self, target: str) -> None:
        self.target = target

    def process(self, partition: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        buckets, keys = unpack(partition[1])
        chosen = maybe_repeated(buckets)
        edges = bucket_edges(buckets[chosen], keys[chosen])
        _write_edges(f"{self.target}-{partition[0]:05d}.npy", edges)
        yield len(edges[0])


def _shuffle(context: RunContext, shards: Sequence[IndexShard], runner: RunnerSettings) -> None:
    """All bands in one pipeline, as far as its partitions stay small: a job of its own for each would mostly wait."""
    columns = band_columns(context)
    documents = sum(shard.rows for shard in shards)
    size = max(1, min(len(columns), SHUFFLED_ROWS // documents))
    bits = hash_ranges(documents * size, SHUFFLED_ROWS)
    tasks: list[Task] = [{"shard": asdict(shard), "weight": shard.rows} for shard in shards]
    pipelines: list[tuple[Callable[[Any], None], Any]] = []
    groups = [
        (tuple(columns[start : start + size]), part)
        for start in range(0, len(columns), size)
        for part in range(1 << bits)
    ]
    for number, (chosen, part) in enumerate(groups):
        rows = (documents * len(chosen)) >> bits
        partitions = min(MOST_PARTITIONS, 1 << (rows // PARTITION_ROWS).bit_length())
        emit = _EmitBands(chosen, bits, part)
        lanes = lanes_of(rows, partitions, len(tasks))
        edges = _BucketEdges(io.join(context.run, f"work/dedup/edges-{number:03d}"))

        def build(
            pipeline: Any,
            name: str = f"bands-{number:03d}",
            lanes: int = lanes,
            emit: _EmitBands = emit,
            partitions: int = partitions,
            edges: _BucketEdges = edges,
        ) -> None:
            _ = (
                spread_tasks(pipeline, name, context.run, tasks, runner, lanes)
                | "Bands" >> beam.ParDo(emit)
                | "Pack" >> beam.ParDo(PackByPartition(partitions)).with_output_types(tuple[int, bytes])
                | "By bucket" >> beam.GroupByKey()
                | "Edges" >> beam.ParDo(edges)
            )

        pipelines.append((build, runner.pipeline(python_heavy=False)))
    run_pipelines("bands", pipelines, 1)


def lanes_of(rows: int, partitions: int, tasks: int) -> int:
    """How many lanes read the shards: one a shard until the pieces they send to a partition grow too small."""
    return max(1, min(tasks, max(rows // FLUSH_ROWS, rows // (partitions * PIECE_ROWS))))


def read_components(context: RunContext) -> tuple[U64, I64]:
    """Step 2: the row keys that occur in some edge, sorted, and the component of each.

    What is held is one edge a document and `EDGES_AT_ONCE` more, however many buckets a pair shares.
    """
    none = np.zeros(0, np.uint64)
    forest, waiting, count = (none, none), [(none, none)], 0
    for uri in io.match(io.join(context.run, "work/dedup/edges-*.npy")):
        with io.BeamOpener().open(uri) as stream:
            edges = np.load(stream)
        waiting.append((edges[0], edges[1]))
        count += len(edges[0])
        if count >= max(EDGES_AT_ONCE, len(forest[0])):
            forest, waiting, count = _one_edge_each(forest, waiting), [], 0
    left, right = zip(forest, *waiting, strict=True)
    return components(np.concatenate(left), np.concatenate(right))


def _one_edge_each(forest: tuple[U64, U64], waiting: list[tuple[U64, U64]]) -> tuple[U64, U64]:
    """(key, smallest key of its component) of every key but the smallest: the same components in the fewest edges."""
    left, right = zip(forest, *waiting, strict=True)
    keys, component = components(np.concatenate(left), np.concatenate(right))
    others = np.flatnonzero(component != np.arange(len(keys)))
    return keys[others], keys[component[others]]
