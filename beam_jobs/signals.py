"""All signals of a shard in one place: measured ones, the dedup verdict, classifier scores of the survivors.

`score_shard` writes them to signals/ (its own pass when classifiers run, so that a new ruleset never scores again);
`decide` calls `assemble` itself when there is nothing to score.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import io, layout
from beam_jobs.context import RunContext, load_context
from beam_jobs.line_dedup import LineVerdicts
from beam_jobs.measure import measured_schema
from beam_jobs.runners import Task
from classifiers.scoring import Scorer
from curation.filters.base import arrow_type
from curation.kernels.text_batch import I64


@lru_cache(maxsize=2)
def scorer_of(run: str) -> Scorer:
    """The classifiers of a run, loaded once a process."""
    context = load_context(run)
    return Scorer(context.job.scoring, context.scored_filters)


def signals_schema(context: RunContext) -> pa.Schema:
    """doc_id, the measured signals, the dedup verdict, the scores."""
    fields = list(measured_schema(context))
    for producer in ("dedup", "score"):
        for rule in context.rules_of(producer):
            fields += [pa.field(f"{rule.prefix}.{s.name}", arrow_type(s.dtype)) for s in rule.filter.signals]
    return pa.schema(fields)


def assemble(context: RunContext, shard: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(documents, signals) of a shard, row group by row group: the memory of one group at a time."""
    exact, near = _dedup_verdict(context, shard)
    lines = LineVerdicts(context, shard)
    schema = signals_schema(context)
    opener = io.BeamOpener()
    first = 0
    with (
        opener.open(io.join(context.run, layout.documents(shard))) as documents_stream,
        opener.open(io.join(context.run, layout.measured(shard))) as measured_stream,
    ):
        documents_file, measured_file = pq.ParquetFile(documents_stream), pq.ParquetFile(measured_stream)
        for group in range(documents_file.num_row_groups):
            documents = documents_file.read_row_group(group)
            stop = first + documents.num_rows
            columns: dict[str, Any] = dict(_columns(measured_file.read_row_group(group)))
            for rule in context.rules_of("dedup"):
                if rule.filter.name == "dedup":
                    columns[f"{rule.prefix}.exact"] = pa.array(exact[first:stop])
                    columns[f"{rule.prefix}.near"] = pa.array(near[first:stop])
            columns |= lines.signals(documents["text"].combine_chunks(), first)
            columns |= _scores(context, documents, (exact[first:stop] == 0) & (near[first:stop] == 0))
            yield documents, pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema)
            first = stop


def _columns(table: pa.Table) -> Iterator[tuple[str, Any]]:
    yield from zip(table.column_names, table.columns, strict=True)


def _dedup_verdict(context: RunContext, shard: int) -> tuple[Any, Any]:
    rows = io.read_json(io.join(context.run, layout.marker("measure", shard)))["documents"]
    exact, near = np.zeros(rows), np.zeros(rows)
    if context.deduplicates:
        with io.BeamOpener().open(io.join(context.run, layout.duplicates(shard))) as stream:
            table = pq.ParquetFile(stream).read(columns=["row", "kind", "jaccard"])
        at: I64 = table["row"].to_numpy()
        is_exact = np.array(table["kind"].to_pylist(), dtype=object) == "exact"
        exact[at[is_exact]] = 1.0
        near[at[~is_exact]] = table["jaccard"].to_numpy()[~is_exact]
    return exact, near


def _scores(context: RunContext, documents: pa.Table, alive: Any) -> dict[str, Any]:
    """Score columns; null for duplicates, which no arm that judges scores would keep."""
    rules = context.rules_of("score")
    if not rules:
        return {}
    size = documents.num_rows
    chosen = np.arange(size) if context.scores_duplicates else np.flatnonzero(alive)
    scored = scorer_of(context.run).score(documents["text"].take(pa.array(chosen)).combine_chunks())
    back = np.full(size, -1, np.int64)
    back[chosen] = np.arange(len(chosen))
    index = pa.array(np.maximum(back, 0), mask=back < 0)
    columns = {}
    for rule in rules:
        for signal in rule.filter.signals:
            values = scored[f"{rule.filter.name}.{signal.name}"].cast(arrow_type(signal.dtype))
            columns[f"{rule.prefix}.{signal.name}"] = (
                values.take(index) if len(values) else pa.nulls(size, arrow_type(signal.dtype))
            )
    return columns


def score_shard(task: Task, _: dict[str, Any]) -> None:
    """Write signals/ of one shard."""
    context, shard, started = load_context(task["run"]), int(task["shard"]), time.monotonic()
    counts = {"documents": 0, "bytes": 0}
    with io.parquet_shards(context.run, {"s": (layout.signals(shard), signals_schema(context))}) as out:
        for documents, signals in assemble(context, shard):
            out["s"].write(signals)
            counts["documents"] += documents.num_rows
            counts["bytes"] += documents["text"].nbytes
        written = out["s"].close().plain()
    seconds = round(time.monotonic() - started, 3)
    marker = {**counts, "seconds": seconds, "files": [written]}
    io.write_json(io.join(context.run, layout.marker("score", shard)), marker)
