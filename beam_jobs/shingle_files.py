"""Pass 2, step 3: shingle sets of the documents that must be compared, written by who reads their texts.

A task reads the texts of some shards and writes the sets (64-bit hashes) by the partition that will compare them, so
that who compares a partition reads one range of each file. Tasks and partitions are about as many and of about equal
size, so that there are as few such ranges as can be. (Through the local runner's shuffle the same bytes move at 60 to
130 MB/s and are held four times; on a cluster they would be 600 bytes a document.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from beam_jobs import io
from beam_jobs.runners import Task, resolve
from curation.dedup.candidates import row_keys
from curation.kernels.shingles import U64, shingle_sets
from curation.kernels.text_batch import I64, TextBatch

TEXT_SETS = "beam_jobs.shingle_files:sets_of_texts"


def sets_of_texts(shard: Task, rows: I64, ngram: int) -> tuple[U64, I64]:
    """Shingle sets of `rows` (sorted) of a shard: flat, and how many each set has."""
    sets, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    with io.parquet_file(shard["documents"]) as file:
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
    return _joined(sets), _joined(lengths)


def _joined(parts: list[Any]) -> Any:
    """The arrays one after the other; a single one as it is, since sets of a shard are 10 to 100 MB."""
    filled = [part for part in parts if len(part)]
    return filled[0] if len(filled) == 1 else np.concatenate(parts)


def shingle_group(task: Task, _: dict[str, Any]) -> None:
    """Write the sets of the candidates of some shards, and the band keys of those in large components.

    Files: `.hashes` sets one after the other, `.rows` (row key, size of its set), `.bands` band keys; all by
    (partition, row key), little-endian 64-bit numbers. `.npz` says where each partition begins in them.
    """
    read_sets: Callable[[Task, I64, int], tuple[U64, I64]] = resolve(task["sets"])
    flats, lengths, keys, partitions, bands = [], [], [], [], [np.zeros((0, task["bands"]), np.uint64)]
    large: list[npt.NDArray[np.bool_]] = []
    for shard in task["shards"]:
        with io.BeamOpener().open(shard["plan"]) as stream, np.load(stream) as plan:
            rows, partition, is_large = plan["rows"], plan["partition"], plan["large"]
        flat, length = read_sets(shard, rows, task["ngram"])
        flats.append(flat)
        lengths.append(length)
        keys.append(row_keys(shard["shard"], rows))
        partitions.append(partition)
        large.append(is_large)
        bands.append(_bands(shard["index"], rows[is_large], task["bands"]))
    key, partition, length, is_large = (_joined(parts) for parts in (keys, partitions, lengths, large))
    order = np.lexsort((key, partition))
    starts = np.cumsum(length) - length
    prefix = task["prefix"]
    with io.writing(f"{prefix}.hashes") as out:
        out.write(_gather(_joined(flats), starts[order], length[order]).data)
    with io.writing(f"{prefix}.rows") as out:
        out.write(np.column_stack((key[order], length[order].astype(np.uint64))).data)
    if is_large.any():
        band_rows = np.cumsum(is_large) - 1
        with io.writing(f"{prefix}.bands") as out:
            out.write(_joined(bands)[band_rows[order][is_large[order]]].data)
    first = np.flatnonzero(np.concatenate(([True], np.diff(partition[order]) != 0)))
    before = [np.concatenate(([0], np.cumsum(column[order]))) for column in (length, is_large)]
    bounds = np.append(first, len(order))
    with io.writing(f"{prefix}.npz") as out:
        np.savez(out, partition=partition[order][first], rows=bounds, hashes=before[0][bounds], bands=before[1][bounds])


def _bands(index_uri: str, rows: I64, bands: int) -> U64:
    if not len(rows):
        return np.zeros((0, bands), np.uint64)
    with io.parquet_file(index_uri) as file:
        table = file.read(columns=[f"band_{band:03d}" for band in range(bands)])
    return np.column_stack([table.column(band).to_numpy()[rows] for band in range(bands)])


@njit(nogil=True, cache=True)
def _gather(flat: U64, starts: I64, lengths: I64) -> U64:
    """The pieces of `flat` one after the other, in the order given."""
    out = np.empty(lengths.sum(), np.uint64)
    position = 0
    for i in range(starts.shape[0]):
        out[position : position + lengths[i]] = flat[starts[i] : starts[i] + lengths[i]]
        position += lengths[i]
    return out


def read_partition(prefixes: Sequence[str], partition: int, keys: U64, bands: int) -> tuple[U64, I64, U64]:
    """The sets of `keys` (sorted), which are all rows of `partition` in the files at `prefixes`.

    Returns:
        Flat sets, their offsets, and the band keys of those in large components, shape (such rows, bands).
    """
    flats, rows = [np.zeros(0, np.uint64)], [np.zeros((0, 2), np.uint64)]
    band_rows = [np.zeros((0, bands), np.uint64)]
    for prefix in prefixes:
        with io.BeamOpener().open(f"{prefix}.npz") as stream, np.load(stream) as table:
            at = int(np.searchsorted(table["partition"], partition))
            places = {name: table[name][at : at + 2] for name in ("rows", "hashes", "bands")}
        rows.append(_range(f"{prefix}.rows", places["rows"], 2))
        flats.append(_range(f"{prefix}.hashes", places["hashes"], 1)[:, 0])
        if places["bands"][1] > places["bands"][0]:
            band_rows.append(_range(f"{prefix}.bands", places["bands"], bands))
    found = np.concatenate(rows)
    if not np.array_equal(found[:, 0], keys):  # shards are visited in order, keys are sorted: all else is lost data
        raise ValueError(f"partition {partition}: {len(found)} shingle sets for {len(keys)} documents")
    offsets = np.concatenate(([0], np.cumsum(found[:, 1].astype(np.int64))))
    return _joined(flats), offsets, _joined(band_rows)


def _range(uri: str, bounds: I64, width: int) -> U64:
    begin, end = bounds.tolist()
    with io.BeamOpener().open(uri) as stream:
        stream.seek(begin * width * 8)
        return np.frombuffer(stream.read((end - begin) * width * 8), np.uint64).reshape(-1, width)
