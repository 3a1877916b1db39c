"""Near-dedup as the first sketch of this project did it: packed arrays through Beam's shuffle, one pipeline.

    python -m benchmarks.columnar_prototype INPUT_FOLDER OUTPUT_FOLDER [--workers 2]

1. every row group becomes rows (bucket, document): 14 band hashes and a hash of the word stream each;
2. the rows go packed through a GroupByKey over 256 partitions; of every bucket the edges to its smallest document;
3. all edges meet in one worker: connected components; whoever is not the smallest of its component goes;
4. the files are read again and written without those, zstd.

What it does *not* do: it verifies no candidate (a shared bucket is enough), folds ASCII only, splits words at spaces,
writes neither normalised documents, hashes, decisions, removed documents, signals, manifest nor report, hashes neither
inputs nor outputs, and a killed run begins anew. For `benchmarks.against_prototype`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from beam_jobs.packed import PackByPartition, pack, unpack
from beam_jobs.runners import RunnerSettings, assign_lanes, reuse_memory
from curation.dedup.candidates import bucket_edges, components
from curation.kernels.shingles import permutations

NGRAM, BANDS, ROWS, PARTITIONS = 5, 14, 8, 256
u32, u64 = np.uint32, np.uint64
ROW_BITS = u64(32)  # a document is file << 32 | row


@njit(nogil=True, cache=True)
def split_words(data: Any, offsets: Any, words: Any, word_offsets: Any, documents: Any) -> int:
    """FNV-1a of every word between ASCII spaces, and a hash of each text's words: the prototype's `tok`."""
    count = 0
    for doc in range(offsets.shape[0] - 1):
        word_offsets[doc] = count
        h, inside, whole = u64(0xCBF29CE484222325), False, u64(0x9E3779B97F4A7C15)
        for i in range(offsets[doc], offsets[doc + 1] + 1):
            c = data[i] if i < offsets[doc + 1] else 32
            if c == 32 or (9 <= c <= 13):
                if inside:
                    h ^= h >> u64(33)
                    h *= u64(0xFF51AFD7ED558CCD)
                    h ^= h >> u64(33)
                    words[count] = h
                    count += 1
                    whole = u64((whole ^ h) * u64(0xC4CEB9FE1A85EC53))
                    whole ^= whole >> u64(32)
                    h, inside = u64(0xCBF29CE484222325), False
            else:
                if 65 <= c <= 90:
                    c += 32
                h = (h ^ u64(c)) * u64(0x100000001B3)
                inside = True
        documents[doc] = whole
    word_offsets[offsets.shape[0] - 1] = count
    return count


@njit(nogil=True, cache=True)
def sign(words: Any, word_offsets: Any, a: Any, b: Any, out: Any) -> None:
    """MinHash over word n-grams, one n-gram after the other: the prototype's `roll`."""
    for doc in range(word_offsets.shape[0] - 1):
        start, size, signature = word_offsets[doc], word_offsets[doc + 1] - word_offsets[doc], out[doc]
        for k in range(a.shape[0]):
            signature[k] = u32(0xFFFFFFFF)
        for i in range(max(size - NGRAM + 1, min(size, 1))):
            h = u64(0)
            for j in range(min(NGRAM, size)):
                h = u64(h * u64(0x9E3779B97F4A7C15)) + words[start + i + j]
                h ^= h >> u64(29)
            x = u32(h >> u64(32))
            x = u32(x ^ u32(x >> u32(16)))
            x = u32(x * u32(0x85EBCA6B))
            x = u32(x ^ u32(x >> u32(13)))
            x = u32(x * u32(0xC2B2AE35))
            x = u32(x ^ u32(x >> u32(16)))
            for k in range(a.shape[0]):
                signature[k] = min(u32(u32(x * a[k]) + b[k]), signature[k])


def buckets(texts: pa.Array) -> Iterator[Any]:
    """The hash of the word stream of every text, then its band hashes, column by column: `signatures` and `bands`."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    words = np.empty((offsets[-1] - offsets[0]) // 2 + len(texts) + 2, u64)
    word_offsets, documents = np.empty(len(offsets), np.int64), np.empty(len(texts), u64)
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    count = split_words(data, offsets, words, word_offsets, documents)
    signatures = np.empty((len(texts), BANDS * ROWS), u32)
    sign(words[:count], word_offsets, *permutations(BANDS * ROWS, 1), signatures)
    yield documents
    for band in range(BANDS):
        h = np.full(len(texts), 0x9E3779B97F4A7C15 ^ (band * 0xD6E8FEB86659FD93 % 2**64), u64)
        for row in range(ROWS):
            h = (h ^ signatures[:, band * ROWS + row].astype(u64)) * u64(0xFF51AFD7ED558CCD)
            h ^= h >> u64(32)
        yield h


class EmitFiles(beam.DoFn):  # type: ignore[misc]
    """(lane, (number, path)) of every input file, by size."""

    def __init__(self, files: list[Path], lanes: int) -> None:
        self.files, self.lanes = files, lanes

    def process(self, _: bytes) -> Iterator[tuple[int, tuple[int, str]]]:
        lanes = assign_lanes([file.stat().st_size for file in self.files], self.lanes)
        for number, (lane, file) in enumerate(zip(lanes, self.files, strict=True)):
            yield lane, (number, str(file))


class Sketch(beam.DoFn):  # type: ignore[misc]
    """The files of a lane → (buckets, documents), row group by row group."""

    def process(self, lane: tuple[int, Iterable[tuple[int, str]]]) -> Iterator[tuple[Any, Any]]:
        for number, path in lane[1]:
            file, first = pq.ParquetFile(path), number << int(ROW_BITS)
            for group in range(file.num_row_groups):
                texts = file.read_row_group(group, columns=["text"], use_threads=False)["text"].combine_chunks()
                keys = np.arange(first, first + len(texts), dtype=u64)
                for column in buckets(texts):
                    yield column, keys
                first += len(texts)


class Edges(beam.DoFn):  # type: ignore[misc]
    """A partition of rows → its edges, packed, for the one worker that joins them."""

    def process(self, partition: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        keys, roots = forest(*bucket_edges(*unpack(partition[1])))
        yield 0, pack(keys, roots)


def forest(left: Any, right: Any) -> tuple[Any, Any]:
    """One edge to the smallest of its component for every other document."""
    keys, component = components(left, right)
    others = np.flatnonzero(component != np.arange(len(keys)))
    return keys[others], keys[component[others]]


class Removed(beam.DoFn):  # type: ignore[misc]
    """All edges → (file, rows that go, packed)."""

    def process(self, edges: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        gone = np.sort(forest(*unpack(edges[1]))[0])
        number = (gone >> ROW_BITS).astype(np.int64)
        for one in np.unique(number).tolist():
            yield one, pack(gone[number == one] & u64(0xFFFFFFFF))


class Rewrite(beam.DoFn):  # type: ignore[misc]
    """(file, rows that go) → the file without them."""

    def __init__(self, files: list[Path], out: Path) -> None:
        self.files, self.out = files, out

    def process(self, item: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        path = self.files[item[0]]
        parts = [part for part in item[1] if part]
        gone = unpack(parts, 1)[0].astype(np.int64)
        file, first, kept = pq.ParquetFile(path), 0, 0
        temporary = self.out / f"{path.name}.tmp"
        with pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd", use_dictionary=["source"]) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                keep = np.ones(len(table), bool)
                keep[gone[(gone >= first) & (gone < first + len(table))] - first] = False
                first += len(table)
                writer.write_table(table.filter(pa.array(keep)))
                kept += int(keep.sum())
        temporary.rename(self.out / path.name)
        yield kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    reuse_memory()
    files = sorted(args.input.glob("*.parquet"))
    args.output.mkdir(parents=True)
    runner = RunnerSettings(args.workers)
    with runner.pipeline(python_heavy=False) as pipeline:
        start = pipeline | "Start" >> beam.Impulse()
        gone = (
            start
            | "Files" >> beam.ParDo(EmitFiles(files, args.workers))
            | "Lanes" >> beam.GroupByKey()
            | "Sketch" >> beam.ParDo(Sketch())
            | "Pack" >> beam.ParDo(PackByPartition(PARTITIONS)).with_output_types(tuple[int, bytes])
            | "By bucket" >> beam.GroupByKey()
            | "Edges" >> beam.ParDo(Edges()).with_output_types(tuple[int, bytes])
            | "All edges" >> beam.GroupByKey()
            | "Removed" >> beam.ParDo(Removed()).with_output_types(tuple[int, bytes])
        )
        every = start | "Every file" >> beam.FlatMap(_no_rows, len(files)).with_output_types(tuple[int, bytes])
        rewritten = (gone, every) | "Both" >> beam.Flatten() | "By file" >> beam.GroupByKey()
        _ = rewritten | "Rewrite" >> beam.ParDo(Rewrite(files, args.output))
    kept = sum(pq.ParquetFile(path).metadata.num_rows for path in args.output.glob("*.parquet"))
    print(f"kept {kept}")


def _no_rows(_: bytes, files: int) -> list[tuple[int, bytes]]:
    return [(number, b"") for number in range(files)]


if __name__ == "__main__":
    main()
