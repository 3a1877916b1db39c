"""What each score-based ruleset does to each kind of document of a truth file: `python -m benchmarks.classifier_truth`.

In: docs.jsonl.zst and truth.jsonl.zst (id joins them). Out: a markdown table, share of each kind dropped, with Wilson
intervals. Kinds whose truth says `keep` should be near 0, those that say `drop` near 100.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from classifiers.evaluate import rate
from classifiers.labelled import read_rows
from classifiers.scoring import Scorer, ScoringSettings

KINDS = (
    "explanatory_counterspeech", "explanatory_dictionary", "explanatory_intervention", "explanatory_qa",
    "explanatory_textbook", "benign_twin", "quality_anchor", "toxic_heavy", "hateful_twin", "toxic_mixed",
    "toxic_single",
)  # fmt: skip
RULES = {
    "blocklist": lambda s: s["blocklist.hits"] > 0,
    "toxicity": lambda s: s["toxicity.toxicity"] >= 0.5,
    "sentence": lambda s: s["sentence.toxic_sentences"] > 0,
    "curated": lambda s: (s["context.max_use"] >= 0.7) | (s["context.document_use"] >= 0.6),
    "curated: use": lambda s: s["context.max_use"] >= 0.7,
    "curated: hateful": lambda s: s["context.document_use"] >= 0.6,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/known_truth"))
    arguments = parser.parse_args()
    truth = {row["id"]: row for row in read_rows(arguments.data / "truth.jsonl.zst") if row["kind"] in KINDS}
    documents = [row for row in read_rows(arguments.data / "docs.jsonl.zst") if row["id"] in truth]
    scored = Scorer(ScoringSettings()).score(pa.array([row["text"] for row in documents]))
    kind = np.array([truth[row["id"]]["kind"] for row in documents])
    numbers = {
        n: np.asarray(c) for n, c in scored.items() if pa.types.is_integer(c.type) or pa.types.is_floating(c.type)
    }
    print("| kind | expected | n | " + " | ".join(RULES) + " |")
    print("|---" * (3 + len(RULES)) + "|")
    for name in KINDS:
        chosen = kind == name
        expected = next((row["expected"] for row in truth.values() if row["kind"] == name), "?")
        cells = []
        for judge in RULES.values():
            found = rate(judge(numbers)[chosen])
            cells.append(f"{100 * found.value:.0f} ({100 * found.low:.0f}–{100 * found.high:.0f})")
        print(f"| {name} | {expected} | {int(chosen.sum())} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
