"""Arrow IPC files, as Hugging Face `save_to_disk` writes them: columns to documents, record batch by record batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

import pyarrow as pa

from curation.sources.base import (
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    RawBatch,
    Split,
    dead_letter,
    unreadable,
    whole_file,
)
from curation.sources.columns import one_line, only_dead, raw_batches
from curation.sources.records import Fields
from curation.sources.streams import is_blank


class Arrow:
    """One row, one document; stream and file layout. A stream that breaks keeps the record batches before."""

    name: ClassVar[str] = "arrow"
    summary: ClassVar[str] = "Arrow IPC, as in Hugging Face dataset folders (save_to_disk)"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather")

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        return whole_file(uri, self.name, opener.size(uri))

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        if is_blank(split.uri, opener):
            return
        fields = Fields.of(settings, split.uri)
        row = 0
        with opener.open(split.uri) as stream:
            batches = _batches(stream, split.uri)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError) as error:
                    yield only_dead(dead_letter(split.uri, row, f"broken Arrow data: {one_line(error)}"))
                    return
                if batch is None:
                    return
                yield from raw_batches(batch, row, fields, limits, split.uri)
                row += batch.num_rows


def _batches(stream: BinaryIO, uri: str) -> Iterator[pa.RecordBatch]:
    try:
        is_file = stream.read(6) == b"ARROW1"
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(uri, f"not an Arrow file: {one_line(error)}") from error
    if is_file:
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


SOURCES.add(Arrow.name, Arrow())
