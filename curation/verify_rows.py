"""The rows behind the hashes: arms and removed documents against decisions/, duplicates against documents/.

Called by `curation/verify_run.py`, one shard a call, in threads. In: a finished run whose files are whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import Problem
from curation.finished_run import I8, I64, KEEP, REDACT, FinishedRun, part, verdict_codes

COUNTED = ("kept", "redacted", "dropped", "quarantined")  # in the order of VERDICTS


@dataclass
class ShardCheck:
    """What one shard's rows say."""

    shard: int
    problems: list[Problem]
    documents: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # arm → verdict → documents, and `bytes`
    removed_by: dict[str, Counter[str]] = field(default_factory=dict)  # arm → reason code → documents
    unreadable: bool = False


def check_shard(run: FinishedRun, shard: int) -> ShardCheck:
    """Compare one shard of every arm with its decisions."""
    check = ShardCheck(shard, [])
    ids = run.table(part("documents", shard), ["doc_id"])["doc_id"]
    lengths: I64 = run.table(part("index", shard), ["length"])["length"].to_numpy()
    check.documents = len(ids)
    if run.table(part("index", shard), ["doc_id"])["doc_id"] != ids:
        check.problems.append(_not_the_rows(run, part("index", shard), "the ids of documents/, in order"))
    for arm in run.arms:
        decided = run.decisions(arm, shard, ["doc_id", "verdict", "reasons"])
        if decided["doc_id"] != ids:
            text = f"one decision of `{arm}` for every document, in order"
            check.problems.append(_not_the_rows(run, run.decision_file(arm, shard), text))
            check.counts[arm], check.removed_by[arm] = Counter(), Counter()
            continue
        verdicts = verdict_codes(decided["verdict"])
        check.problems += _check_arm(run, arm, shard, ids, verdicts, decided["reasons"])
        totals = np.bincount(verdicts, minlength=len(COUNTED)).tolist()
        size = int(lengths[verdicts == KEEP].sum()) + _redacted_bytes(run, arm, shard, verdicts)
        check.counts[arm] = Counter(dict(zip(COUNTED, totals, strict=True)) | {"bytes": size})
        check.removed_by[arm] = removed_by(decided["reasons"], verdicts)
    return check


def _check_arm(
    run: FinishedRun, arm: str, shard: int, ids: pa.ChunkedArray, verdicts: I8, reasons: pa.ChunkedArray
) -> list[Problem]:
    """The ids that the arm carries and those it removed, and the reasons beside the latter."""
    problems = []
    carried, removed = part(f"arms/{arm}", shard), part(f"removed/{arm}", shard)
    kept = pa.array((verdicts == KEEP) | (verdicts == REDACT))
    if run.table(carried, ["doc_id"])["doc_id"] != ids.filter(kept):
        problems.append(_not_the_rows(run, carried, "the documents that decisions/ keeps or redacts, in order"))
    gone = pa.array(verdicts != KEEP)
    table = run.table(removed, ["doc_id", "reasons"])
    if table["doc_id"] != ids.filter(gone):
        problems.append(_not_the_rows(run, removed, "the documents that decisions/ does not keep as they were"))
    elif table["reasons"] != reasons.filter(gone):
        problems.append(_not_the_rows(run, removed, "the reasons that decisions/ gives", what="reasons"))
    return problems


def _not_the_rows(run: FinishedRun, path: str, expected: str, what: str = "rows") -> Problem:
    return Problem("other-rows", f"holds other {what}", f"{run.path}/{path}", expected)


def _redacted_bytes(run: FinishedRun, arm: str, shard: int, verdicts: I8) -> int:
    """UTF-8 bytes of the redacted texts of an arm: the only ones whose length index/ does not know."""
    carried = verdicts[(verdicts == KEEP) | (verdicts == REDACT)]
    rows = np.flatnonzero(carried == REDACT).tolist()
    texts = run.rows_of(part(f"arms/{arm}", shard), rows, ["text"]) if rows else []
    return sum(len(row["text"].encode()) for row in texts)


def removed_by(reasons: pa.ChunkedArray, verdicts: I8) -> Counter[str]:
    """Reason code → documents that are not kept as they were and have it; a document counts once a code."""
    gone = np.flatnonzero(verdicts != KEEP)
    if not len(gone):
        return Counter()
    lists = reasons.take(pa.array(gone)).combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks)
    codes = pc.struct_field(lists.flatten(), "code").dictionary_encode()
    owners = np.repeat(gone, np.asarray(lists.value_lengths(), np.int64))
    pairs = np.unique(np.stack((owners, codes.indices.to_numpy())), axis=1)[1]
    names = codes.dictionary.to_pylist()
    return Counter({names[code]: int(n) for code, n in enumerate(np.bincount(pairs, minlength=len(names)))})


def check_duplicates(run: FinishedRun) -> tuple[list[Problem], int]:
    """What is wrong with duplicates/, and how many rows it has.

    A near duplicate names a document that stays; an exact one names the copy that stands for its text, which may
    itself nearly copy a document that stays. Several documents may share an id, so presence is counted, not looked up.
    """
    shards = [shard for shard in range(run.shards) if part("duplicates", shard) in run.listed]
    if not shards:
        return [], 0
    tables = {
        shard: run.table(part("duplicates", shard), ["doc_id", "duplicate_of", "kind", "jaccard", "row"])
        for shard in shards
    }
    whole = pa.concat_tables(tables.values())
    problems = _bad_rows(run, tables)
    wanted = pc.unique(whole["duplicate_of"])
    present = Counter[str]()
    for shard in range(run.shards):
        ids = run.table(part("documents", shard), ["doc_id"])["doc_id"]
        present.update(ids.filter(pc.is_in(ids, value_set=wanted)).to_pylist())
    is_exact = pc.equal(whole["kind"], "exact")
    removed_exact = Counter[str](whole["doc_id"].filter(is_exact).to_pylist())
    removed = removed_exact + Counter[str](whole["doc_id"].filter(pc.invert(is_exact)).to_pylist())
    earlier = bool(run.manifest["job"]["dedup"]["against"])
    exact_of, near_of = (
        set(whole["duplicate_of"].filter(mask).to_pylist()) for mask in (is_exact, pc.invert(is_exact))
    )
    for name in sorted(exact_of | near_of):
        place = f"{run.path}/duplicates"
        if not present[name] and not earlier:
            text = f"`{name}` is said to be duplicated"
            problems.append(Problem("no-original", text, place, "a document of that id"))
        elif present[name] and name in near_of and present[name] <= removed[name]:
            text = f"`{name}` is said to be nearly copied, and is a duplicate itself"
            problems.append(Problem("removed-original", text, place, "a document that stays"))
        elif present[name] and name in exact_of and present[name] <= removed_exact[name]:
            text = f"`{name}` is said to be copied, and is an exact duplicate itself"
            problems.append(Problem("removed-original", text, place, "the copy that stands for its text"))
    return problems, whole.num_rows


def _bad_rows(run: FinishedRun, tables: dict[int, pa.Table]) -> list[Problem]:
    """Rows whose position is another document's, or whose similarity is below the job's threshold."""
    problems = []
    threshold = float(run.manifest["job"]["dedup"]["threshold"])
    for shard, table in tables.items():
        where = f"{run.path}/{part('duplicates', shard)}"
        ids = run.table(part("documents", shard), ["doc_id"])["doc_id"]
        if table.num_rows and ids.take(table["row"]) != table["doc_id"]:
            problems.append(Problem("other-rows", "`row` points at other documents", where, "the rows of documents/"))
        low = np.flatnonzero(table["jaccard"].to_numpy() < threshold)
        if len(low):
            text = f"{len(low):,} rows below the similarity of a duplicate"
            problems.append(Problem("low-jaccard", text, where, f"at least {threshold}"))
    return problems
