"""What the report shows, read from a finished run at bounded cost: numeric columns of all documents, texts of a few.

Full columns (verdicts, lengths, languages, scores) are small: about 20 bytes a document and arm. Texts and reasons are
read only from row groups that hold `SAMPLED_DOCUMENTS`, spread evenly over the run; the audit reads fewer still.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.audit import Audit, audit
from curation.finished_run import REDACT, FinishedRun, part
from curation.inspect_run import default_arm
from curation.run_cases import Case, Wanted, find_cases, sample_by_code
from curation.run_duplicates import Pair, duplicate_table, pairs_at, sample_pairs

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SAMPLED_DOCUMENTS = 50_000  # texts and reasons come from row groups, spread over the run, that hold about so many
AUDIT_DOCUMENTS, AUDIT_GROUPS = 10_000, 16
PER_CODE = 3  # samples of a reason
FLAGGED = 10  # samples of documents kept though flagged
CLUSTERS = 5
LANGUAGES = 12  # named; the rest is one row
LENGTH_EDGES = np.geomspace(16, 1 << 20, 33)  # UTF-8 bytes, four bins to a factor of four
SCORE_EDGES = np.linspace(0, 1, 21)
JACCARD_EDGES = np.linspace(0.5, 1.0, 51)


@dataclass
class Distribution:
    """Counts per bin of all documents and of what each arm carries."""

    edges: F64
    everything: I64
    arms: dict[str, I64]


@dataclass
class ReportData:
    """Everything that the page shows and the manifest does not say."""

    samples: dict[str, dict[str, list[Case]]]  # arm → reason code → cases
    flagged: list[Case]
    flagged_arm: str
    sampled_from: int  # documents that were looked at for samples
    lengths: Distribution
    toxicity: Distribution | None
    languages: dict[str, dict[str, int]] | None  # language → `documents` and each arm → documents
    clusters: list[tuple[int, Pair]]  # size and one pair of the largest clusters
    near_pairs: list[Pair]
    jaccards: I64  # near duplicates per bin of JACCARD_EDGES
    cluster_sizes: dict[str, int]
    audit: Audit
    dead: list[tuple[str, int, list[dict[str, Any]]]]  # error, how many, a few of them
    scores: list[str] = field(default_factory=list)


def collect(run: FinishedRun) -> ReportData:
    """Read what the page needs."""
    places = run.spread(SAMPLED_DOCUMENTS)
    samples = {arm: sample_by_code(run, arm, PER_CODE, places) for arm in run.arms}
    flagged_arm = default_arm(run)
    flagged, _ = find_cases(run, flagged_arm, Wanted(kept_though_flagged=True), FLAGGED, places)
    lengths, toxicity, languages = _distributions(run)
    table = duplicate_table(run)
    return ReportData(
        samples={arm: found for arm, found in samples.items() if found},
        flagged=flagged,
        flagged_arm=flagged_arm,
        sampled_from=sum(len(run.rows_in(shard, groups)) for shard, groups in places.items()),
        lengths=lengths,
        toxicity=toxicity,
        languages=languages,
        clusters=_largest_clusters(run, table),
        near_pairs=sample_pairs(run, table, CLUSTERS, "near") if table.num_rows else [],
        jaccards=_jaccards(table),
        cluster_sizes=_cluster_sizes(table),
        audit=audit(run, AUDIT_DOCUMENTS, AUDIT_GROUPS),
        dead=_dead_letters(run),
    )


def _prefixes(run: FinishedRun, wanted: str) -> list[str]:
    """Signal prefixes of a filter, in the order of the arms."""
    rules = [rule for arm in run.manifest["arms"].values() for rule in arm["ruleset"]["rules"]]
    return list(dict.fromkeys(rule["as"] for rule in rules if rule["filter"] == wanted))


def _distributions(run: FinishedRun) -> tuple[Distribution, Distribution | None, dict[str, dict[str, int]] | None]:
    """Lengths, toxicity scores and languages of all documents and of each arm."""
    language = next(iter(_prefixes(run, "language")), None)
    toxicity = next(iter(_prefixes(run, "toxicity")), None)
    lengths = _empty(run, LENGTH_EDGES)
    scores = _empty(run, SCORE_EDGES) if toxicity else None
    spoken: dict[str, Counter[str]] = {name: Counter() for name in ("documents", *run.arms)}
    for shard in range(run.shards):
        carried = {arm: verdict <= REDACT for arm, verdict in run.verdicts(shard).items()}
        size = run.table(part("index", shard), ["length"])["length"].to_numpy()
        _add(lengths, np.clip(size, LENGTH_EDGES[0], LENGTH_EDGES[-1]), carried)
        if toxicity and scores:
            value = run.table(part("signals", shard), [f"{toxicity}.toxicity"])[0].to_numpy().astype(np.float64)
            _add(scores, value, carried)  # NaN, a duplicate that was never scored, falls in no bin
        if language:
            column = run.table(part("signals", shard), [f"{language}.lang"])[0].combine_chunks()
            for name, mask in {"documents": np.ones(len(column), bool), **carried}.items():
                for entry in pc.value_counts(column.filter(pa.array(mask))).to_pylist():
                    spoken[name][entry["values"] or "?"] += entry["counts"]
    return lengths, scores, _languages(spoken) if language else None


def _languages(spoken: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    ranked = sorted(spoken["documents"], key=lambda name: (-spoken["documents"][name], name))
    table = {name: {of: counts[name] for of, counts in spoken.items()} for name in ranked[:LANGUAGES]}
    if len(ranked) > LANGUAGES:
        rest = ranked[LANGUAGES:]
        table[f"{len(rest)} others"] = {of: sum(counts[name] for name in rest) for of, counts in spoken.items()}
    return table


def _empty(run: FinishedRun, edges: F64) -> Distribution:
    zeros = np.zeros(len(edges) - 1, np.int64)
    return Distribution(edges, zeros.copy(), {arm: zeros.copy() for arm in run.arms})


def _add(to: Distribution, values: F64, carried: dict[str, npt.NDArray[np.bool_]]) -> None:
    to.everything += np.histogram(values[~np.isnan(values)], to.edges)[0]
    for arm, mask in carried.items():
        chosen = values[mask]
        to.arms[arm] += np.histogram(chosen[~np.isnan(chosen)], to.edges)[0]


def _largest_clusters(run: FinishedRun, table: pa.Table) -> list[tuple[int, Pair]]:
    """The largest clusters, one pair each: the copy of the smallest hash beside the document it copies."""
    if not table.num_rows:
        return []
    parents = dict(zip(table["doc_id"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True))
    sizes = table["cluster_size"].to_numpy()
    originals = table["duplicate_of"].to_pylist()
    chosen: list[int] = []
    seen: set[str] = set()
    for at in np.lexsort((np.arange(len(sizes)), -sizes)).tolist():
        root = parents.get(originals[at], originals[at])  # an exact copy may name a document that is a near one
        if root not in seen:
            seen.add(root)
            chosen.append(at)
        if len(chosen) == CLUSTERS:
            break
    pairs = pairs_at(run, table, chosen)
    return [(int(sizes[at]), pair) for at, pair in zip(chosen, pairs, strict=True)]


def _jaccards(table: pa.Table) -> I64:
    if not table.num_rows:
        return np.zeros(len(JACCARD_EDGES) - 1, np.int64)
    near = table["jaccard"].filter(pc.equal(table["kind"], "near")).to_numpy()
    return np.histogram(near, JACCARD_EDGES)[0].astype(np.int64)


def _cluster_sizes(table: pa.Table) -> dict[str, int]:
    """Removed documents by the size of their cluster."""
    sizes = table["cluster_size"].to_numpy() if table.num_rows else np.zeros(0, np.int64)
    bounds = [(2, 2), (3, 5), (6, 10), (11, 100), (101, None)]
    found = {}
    for low, high in bounds:
        name = f"{low}" if low == high else (f"{low} to {high}" if high else f"over {low - 1}")
        found[name] = int(((sizes >= low) & (sizes <= (high or np.inf))).sum())
    return {name: count for name, count in found.items() if count}


def _dead_letters(run: FinishedRun) -> list[tuple[str, int, list[dict[str, Any]]]]:
    """Errors by how often, each with its first letters in shard order."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    if not run.manifest["dead_letters"]:
        return []
    for shard in range(run.shards):
        with run.opener.open(run.uri(f"dead_letter/part-{shard:05d}.jsonl")) as stream:
            for line in stream.read().splitlines():
                letter = json.loads(line)
                error = str(letter["error"]).split(":", 1)[0]
                counts[error] += 1
                if counts[error] <= PER_CODE:
                    examples.setdefault(error, []).append(letter)
    return [(error, count, examples[error]) for error, count in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))]
