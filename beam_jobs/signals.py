"""All signals of a shard in one place: measured ones, the dedup verdict, classifier scores of the survivors.

`score_shard` is a pass of its own and depends on the texts, the dedup verdict and the models alone: neither a threshold
nor another cheap filter makes the classifiers run again. `assemble` joins everything; `decide` writes it to signals/.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
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
from curation.filters.base import FILTERS, Filter, arrow_type
from curation.kernels.text_batch import I64


@lru_cache(maxsize=2)
def scorer_of(run: str) -> Scorer:
    """The classifiers of a run, loaded once a process."""
    context = load_context(run)
    return Scorer(context.job.scoring, context.scored_filters)


def scores_schema(context: RunContext) -> pa.Schema:
    """doc_id and the columns of every scored filter, under the filter's own name."""
    fields = [pa.field("doc_id", pa.string(), nullable=False)]
    for chosen in _scored_filters(context):
        fields += [pa.field(f"{chosen.name}.{s.name}", arrow_type(s.dtype)) for s in chosen.signals]
    return pa.schema(fields)


def _scored_filters(context: RunContext) -> list[Filter[Any]]:
    return [FILTERS.get(name) for name in sorted(context.scored_filters)]


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
    first = 0
    with ExitStack() as stack:
        documents_file = _open(context, layout.documents(shard), stack)
        measured_file = _open(context, layout.measured(shard), stack)
        scores_file = _open(context, layout.scores(shard), stack) if context.scored_filters else None
        for group in range(documents_file.num_row_groups):
            documents = documents_file.read_row_group(group)
            stop = first + documents.num_rows
            columns: dict[str, Any] = dict(_columns(measured_file.read_row_group(group)))
            for rule in context.rules_of("dedup"):
                if rule.filter.name == "dedup":
                    columns[f"{rule.prefix}.exact"] = pa.array(exact[first:stop])
                    columns[f"{rule.prefix}.near"] = pa.array(near[first:stop])
            columns |= lines.signals(documents["text"].combine_chunks(), first)
            if scores_file is not None:
                scores = scores_file.read_row_group(group)
                for rule in context.rules_of("score"):
                    for signal in rule.filter.signals:
                        columns[f"{rule.prefix}.{signal.name}"] = scores[f"{rule.filter.name}.{signal.name}"]
            yield documents, pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema)
            first = stop


def _open(context: RunContext, path: str, stack: ExitStack) -> pq.ParquetFile:
    return stack.enter_context(io.parquet_file(io.join(context.run, path)))


def _columns(table: pa.Table) -> Iterator[tuple[str, Any]]:
    yield from zip(table.column_names, table.columns, strict=True)


def _dedup_verdict(context: RunContext, shard: int) -> tuple[Any, Any]:
    rows = io.read_json(io.join(context.run, layout.marker("measure", shard)))["documents"]
    exact, near = np.zeros(rows), np.zeros(rows)
    if context.deduplicates:
        with io.parquet_file(io.join(context.run, layout.duplicates(shard))) as file:
            table = file.read(columns=["row", "kind", "jaccard"])
        at: I64 = table["row"].to_numpy()
        is_exact = np.array(table["kind"].to_pylist(), dtype=object) == "exact"
        exact[at[is_exact]] = 1.0
        near[at[~is_exact]] = table["jaccard"].to_numpy()[~is_exact]
    return exact, near


def _scores(context: RunContext, documents: pa.Table, alive: Any) -> pa.Table:
    """Score columns of a batch; null for duplicates, which no arm that judges scores would keep."""
    size = documents.num_rows
    chosen = np.arange(size) if context.scores_duplicates else np.flatnonzero(alive)
    scored = scorer_of(context.run).score(documents["text"].take(pa.array(chosen)).combine_chunks())
    back = np.full(size, -1, np.int64)
    back[chosen] = np.arange(len(chosen))
    index = pa.array(np.maximum(back, 0), mask=back < 0)
    schema = scores_schema(context)
    columns = [documents["doc_id"]]
    for field in list(schema)[1:]:
        values = scored[field.name].cast(field.type)
        columns.append(values.take(index) if len(values) else pa.nulls(size, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def score_shard(task: Task, _: dict[str, Any]) -> None:
    """Write the scores of one shard."""
    context, shard, started = load_context(task["run"]), int(task["shard"]), time.monotonic()
    counts = {"documents": 0, "bytes": 0}
    exact, near = _dedup_verdict(context, shard)
    alive = (exact == 0) & (near == 0)
    files = {"s": (layout.scores(shard), scores_schema(context))}
    with ExitStack() as stack, io.parquet_shards(context.run, files) as out:
        documents_file = _open(context, layout.documents(shard), stack)
        for group in range(documents_file.num_row_groups):
            documents = documents_file.read_row_group(group, columns=["doc_id", "text"])
            stop = counts["documents"] + documents.num_rows
            out["s"].write(_scores(context, documents, alive[counts["documents"] : stop]))
            counts["documents"] = stop
            counts["bytes"] += documents["text"].nbytes
        written = out["s"].close().plain()
    seconds = round(time.monotonic() - started, 3)
    marker = {**counts, "seconds": seconds, "files": [written]}
    io.write_json(io.join(context.run, layout.marker("score", shard)), marker)
