"""decide(): the only code that can drop, redact or quarantine a document.

In: the signals of a batch, its texts, one ruleset. Out: for every document one verdict, all its reasons, and the
text an arm would carry. The order of precedence is drop, quarantine, redact, keep:

1. every rule of the ruleset judges the batch; its findings become reasons, whatever their action;
2. a document with a finding whose action is `drop` is dropped, and so is one with a finding to redact that names no
   place: what cannot be taken out is not kept;
3. otherwise one that a scored filter could not measure, or with a `quarantine` finding, is quarantined;
4. otherwise one with `mask`, `cut` or `drop_sentence` findings is redacted; if nothing is left of it, it is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.document import REASONS, VERDICTS
from curation.filters.base import Finding
from curation.redaction import Edit, redact
from curation.ruleset import Action, ResolvedRuleset

KEEP, REDACT, DROP, QUARANTINE = range(len(VERDICTS))
NOTHING_LEFT = "redaction.nothing_left"


@dataclass(frozen=True)
class Decisions:
    """The verdicts of one ruleset on one batch; arrays have one entry per document."""

    verdicts: npt.NDArray[np.int8]  # index into VERDICTS
    reasons: pa.ListArray  # REASONS
    redacted: dict[int, str]  # row → text, for exactly the rows whose verdict is `redact`

    def verdict_names(self) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(self.verdicts), pa.array(VERDICTS)).cast(pa.string())


def decide(
    signals: Mapping[str, pa.Array], texts: pa.Array, ruleset: ResolvedRuleset, sampled: Sequence[Finding] = ()
) -> Decisions:
    """Verdict, reasons and redacted text of every document of a batch.

    Args:
        signals: full signal name → array with one row per document; holds `ruleset.required`.
        texts: the normalised texts.
        sampled: documents that a sampled arm drops at random, each in one finding; those that a rule drops anyway are
            passed over.

    Raises:
        KeyError: a required signal is missing: the job should have been refused before launch.
    """
    size = len(texts)
    verdicts = np.full(size, KEEP, np.int8)
    found: list[Finding] = []
    edits: dict[int, list[Edit]] = {}
    dropped, quarantined = np.zeros(size, bool), np.zeros(size, bool)
    for rule in ruleset.rules:
        for finding in rule.filter.judge(signals, rule.settings, rule.prefix):
            found.append(finding)
            action = rule.action_for(finding.code)
            if action == "drop" or (finding.spans is None and action in {"mask", "cut", "drop_sentence"}):
                dropped[finding.rows] = True  # nothing to cut out: the finding is about the whole text
            elif action == "quarantine":
                quarantined[finding.rows] = True
            elif action != "keep":
                dropped[_collect_edits(finding, action, edits)] = True
    for finding in sampled:
        drawn = ~dropped[finding.rows]
        found.append(replace(finding, rows=finding.rows[drawn], values=finding.values[drawn]))
        dropped[finding.rows] = True
    failures = _failed(signals, ruleset, ~dropped)
    for failure in failures:
        quarantined[failure.rows] = True
    found += failures
    redacted, emptied = _redacted(texts, edits, dropped | quarantined)
    if emptied:
        rows = np.array(emptied, np.int64)
        dropped[rows] = True
        found.append(Finding(NOTHING_LEFT, NOTHING_LEFT, 1.0, rows, np.zeros(len(rows))))
    verdicts[list(redacted)] = REDACT
    verdicts[quarantined] = QUARANTINE
    verdicts[dropped] = DROP
    return Decisions(verdicts, _reasons(found, size), redacted)


def _failed(signals: Mapping[str, pa.Array], ruleset: ResolvedRuleset, alive: npt.NDArray[np.bool_]) -> list[Finding]:
    """Documents that a classifier should have scored and did not: they never count as clean."""
    failures = []
    for rule in ruleset.rules:
        if rule.filter.producer != "score":
            continue
        missing = np.zeros(len(alive), bool)
        for name in sorted(rule.required):
            if signals[name].null_count:
                missing |= np.asarray(signals[name].is_null())
        rows = np.flatnonzero(missing & alive).astype(np.int64)
        if len(rows):
            code = f"{rule.prefix}.failed"
            failures.append(Finding(code, code, 0.0, rows, np.ones(len(rows))))
    return failures


def _collect_edits(finding: Finding, action: Action, edits: dict[int, list[Edit]]) -> npt.NDArray[np.int64]:
    """Put the spans of `finding` into `edits`; returns the rows without any, of which nothing can be taken out."""
    assert finding.spans is not None
    unplaced = []
    for row, spans in zip(finding.rows.tolist(), finding.spans.to_pylist(), strict=True):
        if not spans:
            unplaced.append(row)
            continue
        into = edits.setdefault(row, [])
        into.extend(Edit(span["start"], span["end"], action, span["label"] or "") for span in spans)
    return np.array(unplaced, np.int64)


def _redacted(
    texts: pa.Array, edits: Mapping[int, list[Edit]], gone: npt.NDArray[np.bool_]
) -> tuple[dict[int, str], list[int]]:
    """Edited texts of the documents that stay, and the rows of which nothing is left."""
    redacted: dict[int, str] = {}
    emptied = []
    for row in sorted(edits):
        if gone[row]:
            continue
        text = redact(texts[row].as_py(), edits[row])
        if text.strip():
            redacted[row] = text
        else:
            emptied.append(row)
    return redacted, emptied


def _reasons(found: list[Finding], size: int) -> pa.ListArray:
    """All findings as one REASONS array: per document in the order of the rules; one reason a span."""
    rows: list[npt.NDArray[np.int64]] = []
    columns: dict[str, list[pa.Array]] = {name: [] for name in ("code", "signal", "value", "threshold", "start", "end")}
    for finding in found:
        if finding.spans is None:
            repeat = np.ones(len(finding.rows), np.int64)
            start = end = pa.nulls(len(finding.rows), pa.int32())
        else:
            counts = np.asarray(finding.spans.value_lengths().fill_null(0), np.int64)
            flat = finding.spans.flatten()
            start, end = flat.field("start"), flat.field("end")
            if not counts.all():  # a finding without any span still is a reason
                start, end = _pad(start, counts), _pad(end, counts)
            repeat = np.maximum(counts, 1)
        total = int(repeat.sum())
        rows.append(np.repeat(finding.rows, repeat))
        columns["code"].append(pa.repeat(finding.code, total))
        columns["signal"].append(pa.repeat(finding.signal, total))
        columns["value"].append(pa.array(np.repeat(finding.values.astype(np.float64), repeat)))
        columns["threshold"].append(pa.repeat(pa.scalar(finding.threshold, pa.float64()), total))
        columns["start"].append(start)
        columns["end"].append(end)
    all_rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    order = pa.array(np.argsort(all_rows, kind="stable"))
    types = {field.name: field.type for field in REASONS.value_type}
    flat_columns = [pa.chunked_array(columns[name], types[name]).combine_chunks().take(order) for name in columns]
    offsets = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(all_rows, minlength=size), out=offsets[1:])
    struct = pa.StructArray.from_arrays(flat_columns, fields=list(REASONS.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), struct, type=REASONS)


def _pad(values: pa.Array, counts: npt.NDArray[np.int64]) -> pa.Array:
    """`values` with one null put in wherever a count is zero."""
    index = np.full(int(np.maximum(counts, 1).sum()), -1, np.int64)
    positions = np.arange(len(index))
    empty = np.repeat(counts == 0, np.maximum(counts, 1))
    index[~empty] = np.arange(int(counts.sum()))
    mask = index < 0
    return (
        values.take(pa.array(np.where(mask, 0, index), mask=mask))
        if len(values)
        else pa.nulls(len(positions), values.type)
    )
