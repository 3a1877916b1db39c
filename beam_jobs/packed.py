"""Packed shuffles: a partition number and some columns as bytes, instead of one element a row.

Measured on 1 M documents x 20 bands: 14 to 21 times faster than one element per band, a third of the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from curation.kernels.shingles import U64

FLUSH_ROWS = 2_000_000  # rows buffered in a bundle before they are sent: 32 MB of two columns


def pack(*columns: U64) -> bytes:
    """The columns, all of one length, little-endian, one after the other."""
    return b"".join(column.astype("<u8", copy=False).tobytes() for column in columns)


def unpack(packed: Iterable[bytes], columns: int = 2) -> tuple[U64, ...]:
    """The columns of all rows of the packed pieces, in the order of the pieces."""
    pieces = [np.frombuffer(piece, "<u8").reshape(columns, -1) for piece in packed]
    pieces.append(np.zeros((columns, 0), np.uint64))
    return tuple(np.concatenate([piece[column] for piece in pieces]) for column in range(columns))


class PackByPartition(beam.DoFn):  # type: ignore[misc]
    """(buckets, other columns …) → (partition, packed rows); the partition is the top bits of the bucket, a hash."""

    def __init__(self, partitions: int) -> None:
        """Args: partitions: a power of two, at most 65,536."""
        self.shift = np.uint64(64 - (partitions.bit_length() - 1))
        self.partitions = partitions

    def start_bundle(self) -> None:
        self.rows: list[tuple[U64, ...]] = []
        self.count = 0

    def process(self, element: tuple[U64, ...]) -> Iterator[tuple[int, bytes]]:
        self.rows.append(element)
        self.count += len(element[0])
        if self.count >= FLUSH_ROWS:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for item in self._flush():
            yield WindowedValue(item, window.max_timestamp(), [window])

    def _flush(self) -> Iterator[tuple[int, bytes]]:
        if not self.count:
            return
        columns = [np.concatenate(column) for column in zip(*self.rows, strict=True)]
        self.rows, self.count = [], 0
        if self.partitions == 1:
            yield 0, pack(*columns)
            return
        partition = (columns[0] >> self.shift).astype(np.uint16)  # numpy sorts 16-bit keys by radix
        order = np.argsort(partition, kind="stable")
        bounds = np.searchsorted(partition[order], np.arange(self.partitions + 1))
        for number in range(self.partitions):
            chosen = order[bounds[number] : bounds[number + 1]]
            if len(chosen):
                yield number, pack(*(column[chosen] for column in columns))
