"""Precision and recall of every kind of document planted in a corpus whose truth is known, in every arm.

    python -m benchmarks.known_truth --out docs/results/known_truth.md

In: docs.jsonl.zst and truth.jsonl.zst (joined by id), and the evaluation files that were planted. Out: a Markdown page.
Runs the passes once with all arms, then counts; nothing here is fitted on the corpus.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from beam_jobs.config import CurateJob
from beam_jobs.curate import curate
from beam_jobs.planning import make_plan
from classifiers.evaluate import Metric, rate
from classifiers.labelled import read_rows
from curation.settings import parse

SHIPPED = ("raw", "dedup_only", "heuristics", "blocklist", "toxicity", "sentence", "curated", "masked")
COPY_KINDS = ("exact_dup", "near_dup", "containment", "hard_negative")
# What must stay whatever an arm looks for: benign threads, texts about hate, and documents that share passages only.
STAYS = ("benign_twin", "explanatory_", "hard_negative")
Row = dict[str, Any]


def separate_arm(evaluation: str) -> Row:
    """Languages and evaluation items: what the shipped rulesets leave to the user's own settings."""
    return {
        "name": "language_and_items",
        "summary": "English only; documents that hold an evaluation item dropped",
        "rules": [
            {"filter": "language", "settings": {"languages": ["en"]}},
            {"filter": "decontamination", "settings": {"files": [evaluation]}},
        ],
    }


@dataclass
class Arm:
    """What one arm did: id → verdict, and id → codes of its reasons that are not about copies."""

    verdict: dict[str, str] = field(default_factory=dict)
    codes: dict[str, set[str]] = field(default_factory=dict)
    copies: set[str] = field(default_factory=set)  # dropped as copies, and for no other reason


@dataclass
class Outcome:
    truth: dict[str, Row]
    texts: dict[str, str]  # normalised
    duplicates: dict[str, Row]
    arms: dict[str, Arm]


def run_arms(data: Path, folder: Path) -> Outcome:
    """Curate the corpus into all arms and read back what was decided."""
    arms = [*SHIPPED, separate_arm(str(data / "eval" / "*.jsonl.zst"))]
    docs = data / "known_truth" / "docs.jsonl.zst"
    job = {"kind": "curate", "input": [str(docs)], "output": str(folder), "arms": arms}
    job["limits"] = {"max_removed_fraction": 1.0}
    run = Path(curate(make_plan(parse(CurateJob, job, "known_truth", "this job"), "known_truth")))
    found = {arm if isinstance(arm, str) else arm["name"]: Arm() for arm in arms}
    for row in rows_of(run / "decisions", ["doc_id", "ruleset", "verdict", "reasons"]):
        arm, name = found[row["ruleset"]], row["doc_id"]
        codes = {reason["code"] for reason in row["reasons"]}
        arm.verdict[name] = row["verdict"]
        arm.codes[name] = {code for code in codes if not code.startswith("dedup.")}
        if codes and not arm.codes[name]:
            arm.copies.add(name)
    truth = {row["id"]: row for row in read_rows(data / "known_truth" / "truth.jsonl.zst")}
    texts = {row["doc_id"]: row["text"] for row in rows_of(run / "documents", ["doc_id", "text"])}
    return Outcome(truth, texts, {row["doc_id"]: row for row in rows_of(run / "duplicates", None)}, found)


def rows_of(folder: Path, columns: list[str] | None) -> Iterator[Row]:
    for path in sorted(folder.glob("*.parquet")):
        yield from pq.read_table(path, columns=columns).to_pylist()


def share(hits: Iterable[bool]) -> Metric:
    return rate(np.fromiter(hits, bool))


def percent(metric: Metric) -> str:
    """`97.3 (96.1–98.2)`, or a dash where there is nothing to count."""
    if not metric.rows:
        return "–"
    return f"{100 * metric.value:.1f} ({100 * metric.low:.1f}–{100 * metric.high:.1f})"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def copies_section(outcome: Outcome) -> str:
    """Exact and near copies; every similarity recomputed by brute force, independently of the code that ships."""
    removed, truth = outcome.duplicates, outcome.truth
    groups: dict[str, set[str]] = defaultdict(set)
    for name, row in truth.items():
        if row["kind"] == "exact_dup":
            groups[row["of"]] |= {name, row["of"]}
    surplus = [len(group - removed.keys()) <= 1 for group in groups.values() for _ in range(len(group) - 1)]
    exact = [
        outcome.texts[name] == outcome.texts[row["duplicate_of"]]
        for name, row in removed.items()
        if row["kind"] == "exact"
    ]
    true_jaccard = {}
    for name, row in removed.items():
        left, right = five_grams(outcome.texts[name]), five_grams(outcome.texts[row["duplicate_of"]])
        true_jaccard[name] = len(left & right) / len(left | right)
    near = [true_jaccard[name] >= 0.75 for name, row in removed.items() if row["kind"] == "near"]
    rows = [
        ("exact copies: removed but for one of each set (recall)", str(len(surplus)), percent(share(surplus))),
        ("removed as exact: the same normalised text (precision)", str(len(exact)), percent(share(exact))),
        ("removed as near: true Jaccard at least 0.75 (precision)", str(len(near)), percent(share(near))),
    ]
    pairs = [(n, row["of"], row["jaccard"]["w5"]) for n, row in truth.items() if row["kind"] == "near_dup"]
    for low, high in ((0.5, 0.7), (0.7, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.9), (0.9, 0.95), (0.95, 1.01)):
        found = [a in removed or b in removed for a, b, jaccard in pairs if low <= jaccard < high]
        label = f"near copies of true Jaccard {low} to {min(high, 1.0)}: one of the two removed"
        rows.append((label, str(len(found)), percent(share(found))))
    found = [a in removed or b in removed for a, b, jaccard in pairs if jaccard >= 0.85]
    rows.append(("**near copies of true Jaccard 0.85 or more (recall)**", str(len(found)), percent(share(found))))
    for kind, label in (
        ("hard_negative", "hard negatives (Jaccard about 0.3 to 0.5): not removed as copies of their twin"),
        ("containment", "one document pasted into another (Jaccard under 0.8): both stay"),
    ):
        stay = [
            n not in removed or removed[n]["duplicate_of"] not in {row["of"], row.get("also_of")}
            for n, row in truth.items()
            if row["kind"] == kind
        ]
        rows.append((label, str(len(stay)), percent(share(stay))))
    return table(("what", "n", "% (95 % interval)"), rows)


def headline(outcome: Outcome) -> str:
    """Languages and evaluation items, judged by the reasons of their own filter."""
    arm, truth = outcome.arms["language_and_items"], outcome.truth

    def flagged(name: str, prefix: str) -> bool:
        return any(code.startswith(prefix) for code in arm.codes[name])

    english = [n for n, r in truth.items() if r["kind"].startswith(("benign", "explanatory", "contamination", "toxic"))]
    rows = []
    foreign = [n for n, r in truth.items() if r["kind"] == "other_language"]
    rows.append(("other languages dropped (recall)", percent(share(flagged(n, "language.") for n in foreign)), foreign))
    kept = [n for n in english if not flagged(n, "language.")]
    right = [n in kept for n in english]
    rows.append(("English of other kinds kept by the language rule", percent(share(right)), english))
    called = [n for n in (*foreign, *english) if flagged(n, "language.")]
    rows.append(("dropped by the language rule: other languages (precision)",
                 percent(share(truth[n]["kind"] == "other_language" for n in called)), called))  # fmt: skip
    for kind in ("contamination_verbatim", "contamination_edited"):
        for least, most in ((13, 10**9), (0, 12)):
            chosen = [
                n for n, r in truth.items()
                if r["kind"] == kind and least <= len(re.findall(r"\w+", r["item"])) <= most
            ]  # fmt: skip
            words = "13 words or more" if least else "under 13 words"
            what = f"{kind.replace('contamination_', 'items ')}, {words}: found (recall)"
            rows.append((what, percent(share(flagged(n, "decontamination.") for n in chosen)), chosen))
    labelled = [n for n, r in truth.items() if r["kind"] not in {"base", "base_dup_origin"}]
    called = [n for n in labelled if flagged(n, "decontamination.")]
    rows.append(("flagged, among labelled kinds: an item is planted there (precision)",
                 percent(share(truth[n]["kind"].startswith("contamination") for n in called)), called))  # fmt: skip
    return table(("what", "n", "% (95 % interval)"), [(what, str(len(names)), value) for what, value, names in rows])


def right_verdicts(expected: str) -> frozenset[str]:
    """The verdicts that do what the truth expects."""
    gone = {"drop", "quarantine"}
    if expected == "keep":
        return frozenset({"keep"})
    return frozenset(gone | {"redact"} if "redact" in expected or expected == "decontaminate" else gone)


def arm_section(outcome: Outcome, name: str) -> str:
    """One line a planted kind. Documents dropped as copies alone are left out: nothing else had a say about them."""
    arm = outcome.arms[name]
    kinds: dict[str, list[str]] = defaultdict(list)
    for doc, row in outcome.truth.items():
        if row["kind"] not in COPY_KINDS and doc not in arm.copies:
            kinds[row["kind"]].append(doc)
    must_stay = [d for k, docs in kinds.items() if k.startswith(STAYS) for d in docs]
    wrongly_gone = sum(arm.verdict[d] != "keep" for d in must_stay)
    rows = []
    for kind in sorted(kinds):
        docs = kinds[kind]
        counts = Counter(arm.verdict[d] for d in docs)
        expected = Counter(outcome.truth[d]["expected"] for d in docs).most_common(1)[0][0]
        recall = precision = "–"
        if expected not in {"unknown", "borderline", "keep_one_of_cluster"}:
            right = right_verdicts(expected)
            hits = sum(counts[verdict] for verdict in right)
            recall = percent(share(arm.verdict[d] in right for d in docs))
            if expected != "keep" and hits + wrongly_gone:
                precision = percent(share([True] * hits + [False] * wrongly_gone))
        verdicts = tuple(str(counts[v]) for v in ("keep", "redact", "drop", "quarantine"))
        rows.append((kind, expected.replace("_", " "), str(len(docs)), *verdicts, recall, precision))
    return table(
        ("kind", "expected", "n", "kept", "redacted", "dropped", "quarantined", "recall %", "precision %"), rows
    )


INTRODUCTION = """# Known truth: what every arm does to every planted kind

`{command}`

{documents:,} documents, {planted:,} of them planted or labelled. All shares are percent with a 95 % Wilson interval.
The corpus is public text with copies, junk, hateful threads, texts about hate, evaluation items and other languages
planted in it. Nothing that ships was fitted on it, but it was looked at while the classifiers were built
(`classifiers.md`): for them it is a development set. `base` documents are natural and unlabelled, with junk and abuse
of their own, so they count neither for nor against.
"""

ARMS = """## Every kind in every arm

Documents that an arm drops as copies alone are left out of its table; the kinds that are about copies stand above.

- **recall**: the share of the kind that got a verdict its truth expects. `keep`: untouched; `drop`: dropped or
  quarantined; `drop or redact`, `redact or drop`, `decontaminate`: dropped, quarantined or redacted.
- **precision** of a kind that should go: of the documents of this kind and of those that must stay (benign twins,
  explanatory kinds) that the arm touched, the share that is of this kind. What is touched wrongly anywhere lowers it.

An arm that does not look for a kind (`blocklist` for junk, say) has a low recall there by design: the tables show what
each one does, not what it should.
"""


def page(outcome: Outcome, command: str) -> str:
    """The whole page."""
    planted = sum(row["kind"] not in {"base", "base_dup_origin"} for row in outcome.truth.values())
    parts = [
        INTRODUCTION.format(command=command, documents=len(outcome.truth), planted=planted),
        "## Copies (the same in every arm that deduplicates)\n",
        copies_section(outcome) + "\n",
        "## Languages and evaluation items (arm `language_and_items`)\n",
        headline(outcome) + "\n",
        ARMS,
    ]
    for name in outcome.arms:
        parts.append(f"### `{name}`\n\n{arm_section(outcome, name)}\n")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.known_truth", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with known_truth/ and eval/")
    parser.add_argument("--out", type=Path, help="Markdown page to write; default: standard output")
    parser.add_argument("--runs", type=Path, help="keep the run here; default: a temporary folder")
    args = parser.parse_args()
    command = "python -m benchmarks.known_truth" + (f" --out {args.out}" if args.out else "")
    with tempfile.TemporaryDirectory() as temporary:
        outcome = run_arms(args.data, args.runs or Path(temporary))
    text = page(outcome, command)
    if args.out is None:
        print(text)
    else:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")
        print(args.out, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
