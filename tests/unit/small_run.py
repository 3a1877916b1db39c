"""A finished run of eight hand-written documents, built without a pass: what every reader of a run is tested on.

Two shards; arms `raw`, `blocklist` and `curated`. Each document is there for one reason, told beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.document import DECISIONS, DOCUMENTS, DUPLICATES, REMOVED

WORD = "bitch"  # a listed word: the tests of masking need one

# id → (shard, source, text)
DOCUMENTS_OF_RUN: dict[str, tuple[int, str, str]] = {
    "plain": (0, "web", "The harvest was late that year, and nobody minded waiting for the first bread of it."),
    "copy": (0, "web", "The harvest was late that year, and nobody minded waiting for the first bread of it."),
    "near": (0, "web", "The harvest was late that year, and nobody minded waiting for the last bread of it."),
    "use": (0, "forum", f"Go away, you {WORD}, nobody asked you. <script>alert('owned')</script> & more"),
    "mention": (0, "forum", f'The entry for "{WORD}" lists two senses: a female dog, and a term of contempt.'),
    "mail": (1, "web", "Questions go to jane.roe@example.org before noon, and the answer comes the same day."),
    "kept": (1, "web", "Bees overwinter in a cluster and take turns at its cold outer edge."),
    "unscored": (1, "web", "A classifier that could not read this text leaves the decision to people."),
}
SPAN = {name: text.index(WORD) for name, (_, _, text) in DOCUMENTS_OF_RUN.items() if WORD in text}


def reason(
    code: str, value: float, threshold: float, start: int | None = None, end: int | None = None
) -> dict[str, Any]:
    signal = {"context.use": "context.max_use", "blocklist.listed_word": "blocklist.hits"}.get(code, code)
    return {"code": code, "signal": signal, "value": value, "threshold": threshold, "start": start, "end": end}


def mention(name: str, role: str) -> dict[str, Any]:
    start = SPAN[name]
    return {
        "start": start, "end": start + len(WORD), "term": WORD, "category": "insult", "target": None, "role": role,
        "score": 0.5, "cue": None,
    }  # fmt: skip


DUPLICATE_REASONS = {
    "copy": [reason("dedup.exact_duplicate", 1.0, 1.0)],
    "near": [reason("dedup.near_duplicate", 0.85, 1e-9)],
}
LISTED = {name: [reason("blocklist.listed_word", 1.0, 0.0, start, start + len(WORD))] for name, start in SPAN.items()}
MAIL = DOCUMENTS_OF_RUN["mail"][2].index("jane")
# arm → id → (verdict, reasons); documents that are not named are kept.
DECIDED: dict[str, dict[str, tuple[str, list[dict[str, Any]]]]] = {
    "raw": {},
    "blocklist": {
        **{name: ("drop", reasons) for name, reasons in DUPLICATE_REASONS.items()},
        **{name: ("drop", reasons) for name, reasons in LISTED.items()},
    },
    "curated": {
        **{name: ("drop", reasons) for name, reasons in DUPLICATE_REASONS.items()},
        "use": ("drop", [reason("context.use", 0.93, 0.5, SPAN["use"], SPAN["use"] + len(WORD))]),
        "mail": ("redact", [reason("pii.email", 1.0, 0.0, MAIL, MAIL + len("jane.roe@example.org"))]),
        "unscored": ("quarantine", [reason("context.failed", 1.0, 0.0)]),
    },
}
CARRIED = {"mail": "Questions go to email@example.com before noon, and the answer comes the same day."}
MENTIONS = {"use": [mention("use", "use")], "mention": [mention("mention", "quotation")]}
RULES: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "raw": [],
    "blocklist": [("dedup", "drop", {}), ("blocklist", "drop", {})],
    "curated": [("dedup", "drop", {}), ("context", "drop", {}), ("pii", "mask", {})],
}
COPIES = [("copy", "plain", "exact", 1.0), ("near", "plain", "near", 0.85)]
KEYS = {"keep": "kept", "redact": "redacted", "drop": "dropped", "quarantine": "quarantined"}


class Builder:
    """Writes the files of the run and remembers what the manifest says of each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[dict[str, Any]] = []

    def parquet(self, path: str, table: pa.Table, row_groups: list[int] | None = None) -> dict[str, Any]:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(target, table.schema, compression="zstd") as writer:
            first = 0
            for size in row_groups or ([table.num_rows] if table.num_rows else []):
                writer.write_table(table.slice(first, size), row_group_size=size)
                first += size
        data = target.read_bytes()
        return {
            "path": path, "documents": table.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip

    def listed(self, path: str, table: pa.Table, row_groups: list[int] | None = None) -> None:
        self.files.append(self.parquet(path, table, row_groups))


def build_run(root: Path) -> Path:
    """The run at `root / "run"`, with its input beside it."""
    run = root / "run"
    builder = Builder(run)
    source = root / "input.jsonl"
    source.write_text("".join(json.dumps({"id": name}) + "\n" for name in DOCUMENTS_OF_RUN), encoding="utf-8")
    arms = {name: _empty_arm(name) for name in DECIDED}
    for shard in (0, 1):
        _write_shard(builder, shard, arms)
    (run / "dead_letter").mkdir()
    letter = {"input": "/somewhere/input.jsonl", "offset": 7, "error": "not-json: line 1", "raw": "{"}
    (run / "dead_letter/part-00000.jsonl").write_text(json.dumps(letter) + "\n", encoding="utf-8")
    (run / "dead_letter/part-00001.jsonl").write_text("", encoding="utf-8")
    (run / "report.html").write_text("<!doctype html>", encoding="utf-8")
    total = len(DOCUMENTS_OF_RUN)
    manifest = {
        "schema_version": 1, "fingerprint": "0123456789abcdef", "code_version": "0.1.0+test", "shards": 2,
        "job": {"dedup": {"against": [], "threshold": 0.8, "bands": 14, "rows": 8, "ngram": 5}},
        "inputs": [{"uri": str(source), "bytes": source.stat().st_size,
                    "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}],
        "passes": [{"name": "measure", "wall_s": 1.0, "documents": total, "bytes": 1}],
        "resources": [{"name": "lexicon/english", "version": "1", "sha256": "00" * 32, "kind": "lexicon"}],
        "notes": ["a note <b>"], "tokens": None, "dedup": {"exact": 1, "near": 1, "comparisons": 1, "capped": 0},
        "documents": total, "dead_letters": 1, "arms": arms, "files": builder.files,
        "conservation": {
            name: {"read": total + 1, "dead": 1, **{key: arm[key] for key in KEYS.values()}}
            for name, arm in arms.items()
        },
    }  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return run


def _empty_arm(name: str) -> dict[str, Any]:
    rules = [
        {"filter": kind, "as": kind, "action": action, "actions": actions, "settings": {}}
        for kind, action, actions in RULES[name]
    ]
    ruleset = {"name": name, "summary": f"the arm {name}", "sample": None, "rules": rules}
    counts = dict.fromkeys(("documents", "bytes", *KEYS.values()), 0)
    return {"ruleset": ruleset, **counts, "removed_by": {}, "shards": [], "removed_shards": []}


def _write_shard(builder: Builder, shard: int, arms: dict[str, dict[str, Any]]) -> None:
    here = {name: (source, text) for name, (at, source, text) in DOCUMENTS_OF_RUN.items() if at == shard}
    rows = [
        {"doc_id": name, "text": text, "source": source, "url": None, "metadata": None}
        for name, (source, text) in here.items()
    ]
    documents = pa.Table.from_pylist(rows, schema=DOCUMENTS)
    groups = [2, len(rows) - 2]  # two row groups: a reader must count rows across them
    builder.listed(f"documents/part-{shard:05d}.parquet", documents, groups)
    sizes = [len(row["text"].encode()) for row in rows]
    builder.listed(f"index/part-{shard:05d}.parquet", pa.table({"doc_id": list(here), "length": sizes}), groups)
    builder.listed(f"signals/part-{shard:05d}.parquet", pa.table({"doc_id": list(here)}), groups)
    copies = [
        {"doc_id": name, "duplicate_of": of, "kind": kind, "jaccard": jaccard, "cluster_size": 3,
         "row": list(here).index(name)}
        for name, of, kind, jaccard in COPIES
        if name in here
    ]  # fmt: skip
    schema = DUPLICATES.append(pa.field("row", pa.int64(), nullable=False))
    builder.listed(f"duplicates/part-{shard:05d}.parquet", pa.Table.from_pylist(copies, schema=schema))
    decisions, decision_groups = [], []
    bounds = [(0, groups[0]), (groups[0], len(rows))]
    for first, last in bounds:  # as the passes write them: row group by row group, all arms of one before the next
        for arm, decided in DECIDED.items():
            decisions += [_decision(arm, row, decided) for row in rows[first:last]]
            decision_groups.append(last - first)
    table = pa.Table.from_pylist(decisions, schema=DECISIONS)
    builder.listed(f"decisions/part-{shard:05d}.parquet", table, decision_groups)
    for arm, decided in DECIDED.items():
        _write_arm(builder, shard, arms[arm], rows, decided)


def _decision(arm: str, row: dict[str, Any], decided: dict[str, Any]) -> dict[str, Any]:
    verdict, reasons = decided.get(row["doc_id"], ("keep", []))
    return {
        "doc_id": row["doc_id"], "ruleset": arm, "verdict": verdict, "reasons": reasons,
        "mentions": MENTIONS.get(row["doc_id"], []) if arm == "curated" else [],
        "text_sha256": hashlib.sha256(row["text"].encode()).hexdigest(),
    }  # fmt: skip


def _write_arm(
    builder: Builder, shard: int, arm: dict[str, Any], rows: list[dict[str, Any]], decided: dict[str, Any]
) -> None:
    name = arm["ruleset"]["name"]
    verdicts = {row["doc_id"]: decided.get(row["doc_id"], ("keep", [])) for row in rows}
    carried = [
        {
            **row,
            "text": CARRIED.get(row["doc_id"], row["text"]) if verdicts[row["doc_id"]][0] == "redact" else row["text"],
        }
        for row in rows
        if verdicts[row["doc_id"]][0] in {"keep", "redact"}
    ]
    removed = [{**row, "reasons": verdicts[row["doc_id"]][1]} for row in rows if verdicts[row["doc_id"]][0] != "keep"]
    file = f"part-{shard:05d}.parquet"
    arm["shards"].append(builder.parquet(f"arms/{name}/{file}", pa.Table.from_pylist(carried, schema=DOCUMENTS)))
    arm["removed_shards"].append(
        builder.parquet(f"removed/{name}/{file}", pa.Table.from_pylist(removed, schema=REMOVED))
    )
    counted = Counter(KEYS[verdict] for verdict, _ in verdicts.values())
    for key, count in counted.items():
        arm[key] += count
    arm["documents"] = arm["kept"] + arm["redacted"]
    arm["bytes"] += sum(len(row["text"].encode()) for row in carried)
    for _, reasons in verdicts.values():
        for code in {entry["code"] for entry in reasons}:
            arm["removed_by"][code] = arm["removed_by"].get(code, 0) + 1
