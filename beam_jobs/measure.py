"""Pass 1, measure: one split of one input → documents/, index/, work/measured/, dead_letter/ of one shard.

1 read raw batches; 2 normalise; 3 ids, content hashes and MinHash bands; 4 the cheap signals that some arm needs;
5 one row group per batch in every file; 6 the marker, last.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa
import xxhash

from beam_jobs import io, layout
from beam_jobs.context import RunContext, load_context
from beam_jobs.line_dedup import LINES, line_rows
from beam_jobs.runners import Task
from curation.dedup.settings import DedupSettings
from curation.document import DOCUMENTS, DeadLetter
from curation.filters.base import DocumentBatch, arrow_type
from curation.kernels.line_hashes import line_hashes
from curation.kernels.shingles import band_hashes, minhash
from curation.kernels.text_batch import TextBatch
from curation.kernels.word_count import word_counts
from curation.normalise import normalise_batch
from curation.settings import parse
from curation.sources import SOURCES, InputSettings, RawBatch, Split

# Filters whose measuring needs a classifier, which `curation` may not import.
MEASURERS = {"language": "classifiers.language:measure"}


def measure_shard(task: Task, _: dict[str, Any]) -> None:
    """Measure the split of `task` (shard, settings, split) and write its shard."""
    context = load_context(task["run"])
    shard, split = int(task["shard"]), Split.from_json(task["split"])
    settings = parse(InputSettings, task["settings"], split.uri, "an input")
    started = time.monotonic()
    files = {
        "documents": (layout.documents(shard), DOCUMENTS),
        "index": (layout.index(shard), index_schema(context.job.dedup if context.deduplicates else None)),
        "measured": (layout.measured(shard), measured_schema(context)),
    }
    if context.line_rules:
        files["lines"] = (layout.lines(shard), LINES)
    counts = {"documents": 0, "bytes": 0, "dead": 0, "lines": 0}
    dead_lines: list[bytes] = []
    plain = {"documents": frozenset({"text"})} if context.job.documents_compression == "none" else {}
    with io.parquet_shards(context.run, files, plain) as shards:
        source = SOURCES.get(split.format)
        for raw in source.read(split, io.BeamOpener(), settings, context.job.reading):
            documents, emptied = _normalised(raw, split, context)
            dead_lines += [_dead_line(letter) for letter in (*raw.dead, *emptied)]
            if not documents.num_rows:
                continue
            texts = TextBatch(documents["text"])
            shards["documents"].write(documents)
            shards["index"].write(index_rows(documents, texts, context))
            shards["measured"].write(measured_rows(documents, texts, context))
            if context.line_rules:
                found = line_hashes(texts, context.min_line_chars)
                shards["lines"].write(line_rows(found, counts["documents"]))
                counts["lines"] += len(found)
            counts["documents"] += documents.num_rows
            counts["bytes"] += int(texts.offsets[-1] - texts.offsets[0])
        written = [shards[key].close().plain() for key in files]
    counts["dead"] = len(dead_lines)
    letters = b"".join(dead_lines)
    written.append(io.write_listed(context.run, layout.dead_letter(shard), letters, len(dead_lines)))
    counts["seconds"] = round(time.monotonic() - started, 3)  # type: ignore[assignment]
    io.write_json(io.join(context.run, layout.marker("measure", shard)), {**counts, "files": written})


def _dead_line(letter: DeadLetter) -> bytes:
    return json.dumps(asdict(letter), ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace") + b"\n"


def _normalised(raw: RawBatch, split: Split, context: RunContext) -> tuple[pa.Table, list[DeadLetter]]:
    """The batch with normalised texts, and a dead letter for every text of which nothing was left."""
    if not context.job.normalise or not raw.documents.num_rows:
        return raw.documents.combine_chunks(), []
    texts, _ = normalise_batch(TextBatch(raw.documents["text"]).array)
    documents = raw.documents.set_column(DOCUMENTS.get_field_index("text"), DOCUMENTS.field("text"), texts)
    empty = np.diff(TextBatch(texts).offsets) == 0
    if not empty.any():
        return documents.combine_chunks(), []
    rows = np.flatnonzero(empty)
    ids = documents["doc_id"].take(pa.array(rows)).to_pylist()
    letters = [
        DeadLetter(split.uri, offset, "empty-text: nothing is left after normalising", f"doc_id {doc_id}")
        for offset, doc_id in zip(raw.offsets[rows].tolist(), ids, strict=True)
    ]
    return documents.filter(pa.array(~empty)).combine_chunks(), letters


def index_schema(settings: DedupSettings | None) -> pa.Schema:
    """sha256 of the text, hash of the id, length, and one key per band (none when no arm deduplicates)."""
    bands = settings.bands if settings is not None and settings.near else 0
    fields = [
        pa.field("doc_id", pa.string()),
        pa.field("sha256", pa.binary(32)),
        pa.field("id_hash", pa.uint64()),
        pa.field("length", pa.int64()),  # UTF-8 bytes
        *(pa.field(f"band_{band:03d}", pa.uint64()) for band in range(bands)),
    ]
    meta = {"headwater.dedup": json.dumps(signature_settings(settings))} if settings else {}
    return pa.schema(fields, metadata=meta)


def signature_settings(settings: DedupSettings) -> dict[str, int]:
    """What two indexes must agree on to be compared."""
    return {"ngram": settings.ngram, "bands": settings.bands, "rows": settings.rows, "seed": settings.seed}


def index_rows(documents: pa.Table, texts: TextBatch, context: RunContext) -> pa.Table:
    """The rows of `index_schema` for a batch."""
    settings = context.job.dedup
    view, bounds = texts.data.data, texts.offsets.tolist()
    sha256 = hashlib.sha256
    digests = b"".join([sha256(view[a:b]).digest() for a, b in pairwise(bounds)])
    hash_id = xxhash.xxh3_64_intdigest
    ids = [hash_id(doc_id.encode()) for doc_id in documents["doc_id"].to_pylist()]
    columns: list[pa.Array] = [
        documents["doc_id"].combine_chunks() if documents.num_rows else pa.array([], pa.string()),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(texts), [None, pa.py_buffer(digests)]),
        pa.array(np.array(ids, np.uint64)),
        pa.array(np.diff(texts.offsets)),
    ]
    schema = index_schema(settings if context.deduplicates else None)
    if context.deduplicates and settings.near:
        keys = band_hashes(
            minhash(texts, settings.ngram, settings.permutations, settings.seed), settings.bands, settings.rows
        )
        # A text without a word has an empty signature, like every other such text: only its equals are its bucket.
        wordless = np.flatnonzero(word_counts(texts) == 0)
        keys[wordless] = np.frombuffer(digests, "<u8").reshape(-1, 4)[wordless, :1]
        columns += [pa.array(np.ascontiguousarray(keys[:, band])) for band in range(settings.bands)]
    return pa.Table.from_arrays(columns, schema=schema)


def measured_schema(context: RunContext) -> pa.Schema:
    """doc_id and one column for every signal of the filters of the measure pass that some arm uses."""
    fields = [pa.field("doc_id", pa.string(), nullable=False)]
    for rule in context.rules_of("measure"):
        fields += [pa.field(f"{rule.prefix}.{s.name}", arrow_type(s.dtype)) for s in rule.filter.signals]
    return pa.schema(fields)


def measured_rows(documents: pa.Table, texts: TextBatch, context: RunContext) -> pa.Table:
    """Every needed cheap signal of a batch."""
    schema = measured_schema(context)
    columns: dict[str, pa.Array] = {"doc_id": documents["doc_id"]}
    batch = DocumentBatch(texts, documents)
    for rule in context.rules_of("measure"):
        measure = _measurer(rule.filter.name) or rule.filter.measure
        for name, values in measure(batch, rule.settings).items():
            columns[f"{rule.prefix}.{name}"] = values
    return pa.Table.from_arrays([_as(columns.get(f.name), f.type, len(texts)) for f in schema], schema=schema)


def _as(values: Any, wanted: pa.DataType, rows: int) -> Any:
    if values is None:  # a signal that this filter's settings do not ask for: not measured
        return pa.nulls(rows, wanted)
    return values if values.type == wanted else values.cast(wanted)


def _measurer(name: str) -> Callable[..., dict[str, pa.Array]] | None:
    if name not in MEASURERS:
        return None
    module, function = MEASURERS[name].split(":")
    return cast("Callable[..., dict[str, pa.Array]]", getattr(import_module(module), function))


def plan_tasks(run: str, splits: Sequence[tuple[int, Split]], settings: Sequence[InputSettings]) -> list[Task]:
    """One task a split; its number is the shard's number."""
    plain = [setting.model_dump(mode="json") for setting in settings]
    return [
        {"run": run, "shard": shard, "settings": plain[index], "split": split.to_json(), "weight": split.bytes}
        for shard, (index, split) in enumerate(splits)
    ]
