"""Pass 3, decide: documents and signals of one shard → every arm, its removed documents, all decisions.

`decide_shard` writes the arms whose verdicts depend on the document alone; `sample_shard` the arms that remove at
random as much as another arm removed, which is known only when that one is finished.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import io, layout
from beam_jobs.context import RunContext, load_context
from beam_jobs.runners import Task
from beam_jobs.signals import assemble, signals_schema
from curation.decision import KEEP, REDACT, Decisions, decide
from curation.document import DECISIONS, DOCUMENTS, MENTIONS, REMOVED, VERDICTS
from curation.filters.base import Finding
from curation.kernels.text_batch import TextBatch
from curation.kernels.word_count import word_counts
from curation.ruleset import ResolvedRuleset
from curation.seeding import unit_hash

SAMPLED = "sample.matched_removal"


def arm_files(shard: int, arms: list[ResolvedRuleset], decisions: str) -> dict[str, tuple[str, pa.Schema]]:
    """The files that a decide task writes."""
    files = {"decisions": (decisions, DECISIONS)}
    for arm in arms:
        files[f"arm:{arm.name}"] = (layout.arm(arm.name, shard), DOCUMENTS)
        files[f"removed:{arm.name}"] = (layout.removed(arm.name, shard), REMOVED)
    return files


def _documents_and_signals(
    context: RunContext, shard: int, files: Mapping[str, io.ParquetShard]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Assembled and written to signals/ on the way; from signals/ when an earlier pass has written it."""
    if "signals" in files:
        for documents, signals in assemble(context, shard):
            files["signals"].write(signals)
            yield documents, signals
        return
    with (
        io.parquet_file(io.join(context.run, layout.documents(shard))) as documents_file,
        io.parquet_file(io.join(context.run, layout.signals(shard))) as signals_file,
    ):
        for group in range(documents_file.num_row_groups):
            yield documents_file.read_row_group(group), signals_file.read_row_group(group)


def decide_shard(task: Task, _: dict[str, Any]) -> None:
    """Every arm but the sampled ones, for one shard."""
    context, shard, started = load_context(task["run"]), int(task["shard"]), time.monotonic()
    arms = [arm for arm in context.arms if arm.sample is None]
    files = arm_files(shard, arms, layout.decisions(shard))
    files["signals"] = (layout.signals(shard), signals_schema(context))
    tally: dict[str, ArmTally] = {arm.name: ArmTally() for arm in context.arms}
    base = SampleBase([arm for arm in context.arms if arm.sample is not None])
    shas, first = _sha256_hex(context, shard), 0
    with io.parquet_shards(context.run, files) as out:
        for documents, signals in _documents_and_signals(context, shard, out):
            _decide_batch(documents, signals, shas.slice(first, documents.num_rows), arms, out, tally, base)
            first += documents.num_rows
        written = {key: shard_file.close().plain() for key, shard_file in out.items()}
    base.save(io.join(context.run, layout.sample_base(shard)))
    seconds = round(time.monotonic() - started, 3)
    _mark(context.run, "decide", shard, written, {arm.name: tally[arm.name] for arm in arms}, seconds)


def _mark(run: str, name: str, shard: int, written: Any, tally: Any, seconds: float) -> None:
    arms = {
        arm: {**counts.plain(), "file": written[f"arm:{arm}"], "removed_file": written[f"removed:{arm}"]}
        for arm, counts in tally.items()
    }
    others = [written[key] for key in sorted(written) if ":" not in key]
    documents = max((counts.documents for counts in tally.values()), default=0)
    value = {"arms": arms, "files": others, "seconds": seconds, "documents": documents}
    io.write_json(io.join(run, layout.marker(name, shard)), value)


def _decide_batch(
    documents: pa.Table,
    signals: pa.Table,
    shas: pa.Array,
    arms: list[ResolvedRuleset],
    out: Mapping[str, io.ParquetShard],
    tally: dict[str, ArmTally],
    base: SampleBase,
) -> None:
    texts = documents["text"].combine_chunks()
    columns = {name: signals[name].combine_chunks() for name in signals.column_names}
    decided: dict[str, Decisions] = {}
    for arm in arms:
        decided[arm.name] = decisions = decide(columns, texts, arm)
        out["decisions"].write(decision_rows(documents, shas, arm, decisions, columns))
        tally[arm.name].add(write_arm(arm.name, documents, decisions, out), decisions)
    if base.arms:
        base.add(documents, texts, columns, decided)


def _sha256_hex(context: RunContext, shard: int) -> pa.Array:
    """sha256 of every normalised text of a shard, as the measure pass found it, in hexadecimal."""
    with io.parquet_file(io.join(context.run, layout.index(shard))) as file:
        column = file.read(columns=["sha256"])["sha256"].combine_chunks()
    if not len(column):
        return pa.array([], pa.string())
    digits = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), "<u2")
    raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * 32 : (column.offset + len(column)) * 32]
    offsets = np.arange(len(column) + 1, dtype=np.int32) * 64
    return pa.StringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(digits[raw]))


def decision_rows(
    documents: pa.Table, shas: pa.Array, arm: ResolvedRuleset, decisions: Decisions, signals: Mapping[str, pa.Array]
) -> pa.Table:
    """Rows of decisions/ for one arm and one batch; mentions where the arm looks at context."""
    size = documents.num_rows
    mentions: pa.Array = pa.nulls(size, MENTIONS)
    for rule in arm.rules:
        if rule.filter.name == "context":
            mentions = signals[f"{rule.prefix}.mentions"]
    if mentions.null_count:
        mentions = _empty_for_null(mentions)
    names = decisions.verdict_names()
    return pa.Table.from_arrays(
        [documents["doc_id"], pa.repeat(arm.name, size), names, decisions.reasons, mentions, shas], schema=DECISIONS
    )


def _empty_for_null(lists: pa.Array) -> pa.Array:
    """A list array with [] where it had null."""
    lengths = np.asarray(lists.value_lengths().fill_null(0), np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), lists.flatten(), type=lists.type)


def write_arm(name: str, documents: pa.Table, decisions: Decisions, out: Mapping[str, io.ParquetShard]) -> int:
    """Write what the arm keeps and what it removes; returns the UTF-8 bytes of text that it keeps."""
    verdicts = decisions.verdicts
    kept = np.flatnonzero((verdicts == KEEP) | (verdicts == REDACT))
    carried = documents if len(kept) == documents.num_rows else documents.take(pa.array(kept))
    if decisions.redacted:
        texts = carried["text"].to_pylist()
        where = {row: position for position, row in enumerate(kept.tolist())}
        for row, text in decisions.redacted.items():
            texts[where[row]] = text
        position = DOCUMENTS.get_field_index("text")
        carried = carried.set_column(position, DOCUMENTS.field("text"), pa.array(texts, pa.string()))
    carried = carried.combine_chunks()
    out[f"arm:{name}"].write(carried)
    gone = np.flatnonzero(verdicts != KEEP)
    if len(gone):
        index = pa.array(gone)
        table = documents.take(index).append_column(REMOVED.field("reasons"), decisions.reasons.take(index))
        out[f"removed:{name}"].write(table.combine_chunks())
    offsets = TextBatch(carried["text"]).offsets
    return int(offsets[-1] - offsets[0])


class ArmTally:
    """Counts of one arm over a shard."""

    def __init__(self) -> None:
        self.verdicts = np.zeros(len(VERDICTS), np.int64)
        self.removed_by: Counter[str] = Counter()
        self.removed_by_filter: Counter[str] = Counter()
        self.text_bytes = 0

    @property
    def documents(self) -> int:
        return int(self.verdicts.sum())

    def add(self, text_bytes: int, decisions: Decisions) -> None:
        self.text_bytes += text_bytes
        self.verdicts += np.bincount(decisions.verdicts, minlength=len(VERDICTS))
        gone = np.flatnonzero(decisions.verdicts != KEEP)
        if len(gone):
            reasons = decisions.reasons.take(pa.array(gone))
            lengths = np.asarray(reasons.value_lengths(), np.int64)
            codes = reasons.flatten().field("code").dictionary_encode()
            rows, index, names = np.repeat(gone, lengths), codes.indices.to_numpy(), codes.dictionary.to_pylist()
            _count_once(self.removed_by, rows, index, names)
            filters = sorted({name.rsplit(".", 1)[0] for name in names})
            of_code = np.array([filters.index(name.rsplit(".", 1)[0]) for name in names])
            _count_once(self.removed_by_filter, rows, of_code[index], filters)

    def plain(self) -> dict[str, Any]:
        counts = dict(zip(("kept", "redacted", "dropped", "quarantined"), self.verdicts.tolist(), strict=True))
        return {
            **counts,
            "text_bytes": self.text_bytes,
            "removed_by": dict(sorted(self.removed_by.items())),
            "removed_by_filter": dict(sorted(self.removed_by_filter.items())),
        }


def _count_once(
    into: Counter[str], rows: npt.NDArray[np.int64], index: npt.NDArray[np.int64], names: list[str]
) -> None:
    """Add to `into` how many rows have each name, a row once a name however often it has it."""
    pairs = np.unique(np.stack((rows, index)), axis=1)[1]
    for name, count in zip(names, np.bincount(pairs, minlength=len(names)).tolist(), strict=True):
        into[name] += count


class SampleBase:
    """What the sampled arms need of every document: its source, its words, and how many words other arms removed."""

    SCHEMA = pa.schema([("source", pa.string()), ("doc_id", pa.string()), ("words", pa.int64())])

    def __init__(self, arms: list[ResolvedRuleset]) -> None:
        self.arms = arms
        self.tables: list[pa.Table] = []

    def add(
        self, documents: pa.Table, texts: pa.Array, signals: Mapping[str, pa.Array], decided: Mapping[str, Decisions]
    ) -> None:
        words = word_counts(TextBatch(texts))
        columns: dict[str, Any] = {"source": documents["source"], "doc_id": documents["doc_id"], "words": words}
        for arm in self.arms:
            assert arm.sample is not None
            base = decide(signals, texts, arm)
            columns[f"alive:{arm.name}"] = base.verdicts <= REDACT
            matched = decided[arm.sample.match]
            left = np.where(matched.verdicts <= REDACT, words, 0)
            if matched.redacted:
                rows = sorted(matched.redacted)
                left[rows] = word_counts(TextBatch.of([matched.redacted[row] for row in rows]))
            # Only what the matched arm lost beyond what this arm's own rules remove is taken at random.
            columns[f"lost:{arm.name}"] = np.where(base.verdicts <= REDACT, words - left, 0)
        self.tables.append(pa.table(columns))

    def save(self, uri: str) -> None:
        if not self.arms:
            return
        table = pa.concat_tables(self.tables) if self.tables else None
        with io.writing(uri) as stream:
            pq.write_table(table if table is not None else pa.table({}), stream, compression="zstd")


def sample_thresholds(context: RunContext, shards: int) -> dict[str, dict[str, float]]:
    """arm → source → hash below which a document goes: at least the matched words go, and not one document more.

    The order of removal is the hash of the id, so neither shards nor arrival order matter.
    """
    arms = [arm for arm in context.arms if arm.sample is not None]
    tables = []
    for shard in range(shards):
        with io.BeamOpener().open(io.join(context.run, layout.sample_base(shard))) as stream:
            tables.append(pq.ParquetFile(stream).read())
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return {arm.name: {} for arm in arms}
    base = pa.concat_tables(tables)
    source = base["source"].combine_chunks().dictionary_encode()
    words = base["words"].to_numpy()
    thresholds: dict[str, dict[str, float]] = {}
    for arm in arms:
        assert arm.sample is not None
        alive = base[f"alive:{arm.name}"].to_numpy()
        lost = base[f"lost:{arm.name}"].to_numpy()
        hashes = np.array([unit_hash(doc_id, arm.sample.seed) for doc_id in base["doc_id"].to_pylist()])
        thresholds[arm.name] = {
            name: _threshold(hashes[chosen], words[chosen], int(lost[source.indices.to_numpy() == code].sum()))
            for code, name in enumerate(source.dictionary.to_pylist())
            for chosen in [np.flatnonzero((source.indices.to_numpy() == code) & alive)]
        }
    return thresholds


def _threshold(hashes: npt.NDArray[np.float64], words: npt.NDArray[np.int64], lost: int) -> float:
    """The hash of the last document to go, made exclusive: the fewest documents whose words reach `lost`."""
    if lost <= 0 or not len(hashes):
        return 0.0
    order = np.argsort(hashes, kind="stable")
    reached = int(np.searchsorted(np.cumsum(words[order]), lost))
    return float(np.nextafter(hashes[order[min(reached, len(order) - 1)]], 2.0))


def sample_shard(task: Task, extra: dict[str, Any]) -> None:
    """The sampled arms of one shard; `extra` holds their thresholds."""
    context, shard, started = load_context(task["run"]), int(task["shard"]), time.monotonic()
    arms = [arm for arm in context.arms if arm.sample is not None]
    tally = {arm.name: ArmTally() for arm in arms}
    files = arm_files(shard, arms, layout.part("decisions", shard).replace("part-", "part-sampled-"))
    shas, first = _sha256_hex(context, shard), 0
    with io.parquet_shards(context.run, files) as out:
        for documents, signals in _documents_and_signals(context, shard, {}):
            texts = documents["text"].combine_chunks()
            columns = {name: signals[name].combine_chunks() for name in signals.column_names}
            of_batch = shas.slice(first, documents.num_rows)
            first += documents.num_rows
            for arm in arms:
                decisions = decide(columns, texts, arm, _drawn(documents, arm, extra["thresholds"][arm.name]))
                out["decisions"].write(decision_rows(documents, of_batch, arm, decisions, columns))
                tally[arm.name].add(write_arm(arm.name, documents, decisions, out), decisions)
        written = {key: shard_file.close().plain() for key, shard_file in out.items()}
    _mark(context.run, "sample", shard, written, tally, round(time.monotonic() - started, 3))


def _drawn(documents: pa.Table, arm: ResolvedRuleset, thresholds: Mapping[str, float]) -> list[Finding]:
    """The documents below their source's threshold: one finding for each threshold."""
    assert arm.sample is not None
    seed = arm.sample.seed
    hashes = np.array([unit_hash(doc_id, seed) for doc_id in documents["doc_id"].to_pylist()])
    limit = np.array([thresholds.get(name, 0.0) for name in documents["source"].to_pylist()])
    found = []
    for threshold in np.unique(limit).tolist():
        rows = np.flatnonzero((limit == threshold) & (hashes < threshold)).astype(np.int64)
        found.append(Finding(SAMPLED, "sample.unit_hash", threshold, rows, hashes[rows]))
    return found
