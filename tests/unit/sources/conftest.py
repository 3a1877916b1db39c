"""`read`: all splits of a file through its source, as the measure pass reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.document import DOCUMENTS, DeadLetter
from curation.sources import SOURCES, InputSettings, Limits, LocalFiles, format_of, splits_of

Reading = tuple[list[dict[str, Any]], list[DeadLetter], list[int]]
Read = Callable[..., Reading]


@pytest.fixture
def read() -> Read:
    def run(path: Path, target_bytes: int = 1 << 30, limits: Limits | None = None, **settings: Any) -> Reading:
        uri, opener = str(path), LocalFiles()
        chosen = InputSettings(path=uri, **settings)
        fmt = chosen.format or format_of(uri)
        tables, dead, offsets = [DOCUMENTS.empty_table()], [], []
        for split in splits_of(uri, fmt, opener, target_bytes, chosen):
            for batch in SOURCES.get(fmt).read(split, opener, chosen, limits or Limits()):
                assert batch.documents.schema == DOCUMENTS
                assert len(batch.offsets) == batch.documents.num_rows
                batch.documents.validate(full=True)
                tables.append(batch.documents)
                dead += batch.dead
                offsets += batch.offsets.tolist()
        return pa.concat_tables(tables).to_pylist(), dead, offsets

    return run
