"""Reading and normalising, one core: MB of decompressed JSONL per second, against the bare parsers.

    python benchmarks/reading.py ../shared/data/corpus/reddit.jsonl.zst

Processor time, best of five. `parse alone` does nothing but parse; reading also checks every text, makes ids and
metadata, and builds Arrow columns.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from curation.normalise import normalise_batch
from curation.sources import SOURCES, InputSettings, Limits, LocalFiles, format_of, splits_of
from curation.sources.streams import blocks

REPEATS = 5


def read(path: str) -> pa.Table:
    """All documents of a file."""
    opener, settings = LocalFiles(), InputSettings(path=path)
    fmt = format_of(path)
    batches = [
        batch.documents
        for split in splits_of(path, fmt, opener, 1 << 40)
        for batch in SOURCES.get(fmt).read(split, opener, settings, Limits())
    ]
    return pa.concat_tables(batches)


def best(run: Callable[[], object]) -> float:
    """Least processor time of a run in seconds."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main(packed: str) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        plain = str(Path(folder) / "plain.jsonl")
        Path(plain).write_bytes(b"".join(blocks(packed, LocalFiles())))
        megabytes = Path(plain).stat().st_size / 1e6
        table = read(packed)
        columns = str(Path(folder) / "plain.parquet")
        pa.parquet.write_table(table, columns, compression="zstd")
        lines = Path(plain).read_bytes().splitlines()
        texts = table["text"].combine_chunks()
        normalise_batch(texts[:10])  # compiles
        options = pa.json.ReadOptions(use_threads=False, block_size=1 << 22)
        runs: list[tuple[str, float, Callable[[], object]]] = [
            ("read JSONL", megabytes, lambda: read(plain)),
            (f"read {Path(packed).suffix}", megabytes, lambda: read(packed)),
            ("read the same documents from Parquet", megabytes, lambda: read(columns)),
            ("orjson, parse alone", megabytes, lambda: [orjson.loads(line) for line in lines]),
            ("json, parse alone", megabytes, lambda: [json.loads(line) for line in lines]),
            ("pyarrow.json, parse alone", megabytes, lambda: pa.json.read_json(plain, read_options=options)),
            ("normalise", texts.nbytes / 1e6, lambda: normalise_batch(texts)),
        ]
        print(f"{table.num_rows} documents, {megabytes:.1f} MB\n\n| | MB/s |\n|---|---|")
        for name, size, run in runs:
            print(f"| {name} | {size / best(run):.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/corpus/reddit.jsonl.zst")
