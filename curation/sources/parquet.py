"""Parquet files: columns to documents, row group by row group, each streamed page by page.

The text never passes through Python; only the metadata of other columns is made row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.sources.base import (
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    RawBatch,
    Split,
    dead_letter,
    unreadable,
)
from curation.sources.columns import one_line, only_dead, raw_batches
from curation.sources.records import Fields
from curation.sources.streams import is_blank


class Parquet:
    """One row, one document. A row group that cannot be decoded is one dead letter that says how many rows it held."""

    name: ClassVar[str] = "parquet"
    summary: ClassVar[str] = "Parquet, split by row groups"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        if is_blank(uri, opener):
            return [Split(uri, self.name, 0, 0, "row_group", 0)]
        with opener.open(uri) as stream:
            meta = _open(stream, uri).metadata
            sizes = [_bytes(meta.row_group(group)) for group in range(meta.num_row_groups)]
        splits = []
        start, held = 0, 0
        for group, size in enumerate(sizes):
            if held and held + size > target_bytes:
                splits.append(Split(uri, self.name, start, group, "row_group", held))
                start, held = group, 0
            held += size
        splits.append(Split(uri, self.name, start, len(sizes), "row_group", held))
        return splits

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        if split.start == split.stop:
            return
        fields = Fields.of(settings, split.uri)
        with opener.open(split.uri) as stream:
            file = _open(stream, split.uri)
            meta = file.metadata
            first = sum(meta.row_group(group).num_rows for group in range(split.start))
            for group in range(split.start, split.stop):
                info = meta.row_group(group)
                rows = _rows_a_batch(info, limits)
                done = 0
                try:
                    for batch in file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False):
                        yield from raw_batches(batch, first + done, fields, limits, split.uri)
                        done += batch.num_rows
                except (pa.ArrowException, OSError) as error:
                    lost = f"unreadable row group {group}: {info.num_rows - done} rows lost: {one_line(error)}"
                    yield only_dead(dead_letter(split.uri, first + done, lost))
                first += info.num_rows


def _open(stream: BinaryIO, uri: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(uri, f"not a Parquet file: {one_line(error)}") from error


def _bytes(info: pq.RowGroupMetaData) -> int:
    sizes = [info.column(column).total_uncompressed_size for column in range(info.num_columns)]
    return int(np.sum(sizes, dtype=np.int64))


def _rows_a_batch(info: pq.RowGroupMetaData, limits: Limits) -> int:
    """Rows whose decoded columns take about `limits.batch_bytes`, by the row group's mean."""
    mean: int = max(1, info.total_byte_size // max(1, info.num_rows))
    return max(1, min(limits.batch_documents, limits.batch_bytes // mean))


SOURCES.add(Parquet.name, Parquet())
