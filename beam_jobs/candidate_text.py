"""Shingle sets of the documents that must be compared: written by the shard that holds the text, read by partition.

A file of 64-bit hashes per shard, laid out by partition, and a small table beside it: who reads a partition reads one
range of each file. (Through the local runner's shuffle the same bytes move at 60 to 130 MB/s and are held 4 times.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numba import njit

from beam_jobs import io
from curation.dedup.candidates import row_keys
from curation.kernels.shingles import U64, shingle_sets
from curation.kernels.text_batch import I64, TextBatch


def write_shingles(prefix: str, documents_uri: str, rows: I64, partition: I64, ngram: int, shard: int) -> None:
    """Shingle sets of `rows` (sorted) of one documents file, in the order of (partition, row)."""
    sets: list[U64] = []
    lengths: list[I64] = []
    with io.parquet_file(documents_uri) as file:
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            begin, end = np.searchsorted(rows, [first, first + count])
            if end > begin:
                texts = file.read_row_group(group, columns=["text"])["text"].take(pa.array(rows[begin:end] - first))
                flat, offsets = shingle_sets(TextBatch(texts), ngram)
                sets.append(flat)
                lengths.append(np.diff(offsets))
            first += count
    flat = np.concatenate(sets)
    length = np.concatenate(lengths)
    starts = np.cumsum(length) - length
    order = np.lexsort((rows, partition))
    with io.writing(f"{prefix}.hashes") as out:
        out.write(_gather(flat, starts[order], length[order]).data)
    with io.writing(f"{prefix}.npz") as out:
        np.savez(out, keys=row_keys(shard, rows[order]), partition=partition[order], length=length[order])


@njit(nogil=True, cache=True)
def _gather(flat: U64, starts: I64, lengths: I64) -> U64:
    """The pieces of `flat` one after the other, in the order given."""
    out = np.empty(lengths.sum(), np.uint64)
    position = 0
    for i in range(starts.shape[0]):
        out[position : position + lengths[i]] = flat[starts[i] : starts[i] + lengths[i]]
        position += lengths[i]
    return out


def gather_shingles(prefixes: Sequence[str], partition: int, keys: U64) -> tuple[U64, I64]:
    """The sets of `keys` (sorted), which are all rows of `partition` in the files at `prefixes`: flat, offsets."""
    flats, lengths, found = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for prefix in prefixes:
        with io.BeamOpener().open(f"{prefix}.npz") as stream, np.load(stream) as table:
            begin, end = np.searchsorted(table["partition"], [partition, partition + 1])
            before = int(table["length"][:begin].sum())
            length = table["length"][begin:end]
            found.append(table["keys"][begin:end])
        lengths.append(length)
        with io.BeamOpener().open(f"{prefix}.hashes") as stream:
            stream.seek(before * 8)
            flats.append(np.frombuffer(stream.read(int(length.sum()) * 8), np.uint64))
    have = np.concatenate(found)
    if not np.array_equal(have, keys):  # shards are visited in order and keys are sorted: anything else is lost data
        raise ValueError(f"partition {partition}: {len(have)} shingle sets for {len(keys)} documents")
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    return np.concatenate(flats), offsets
