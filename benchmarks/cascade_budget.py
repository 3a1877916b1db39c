"""What the encoder's budget costs and loses on ordinary text: `python -m benchmarks.cascade_budget`.

In: every so manieth document of the corpora. Every window is read once; then the cascade is run again as if only the
windows from a first-stage probability on were read. Out: for each level the share of documents and windows read, and
of the documents that the second stage alone would catch (reading everything) the share still caught.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers.evaluate import rate
from classifiers.labelled import read_rows
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.stack_measure import Remembering

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
CATCHES = {
    "curated": lambda s: (s["context.max_use"] >= 0.7) | (s["context.document_use"] >= 0.6),
    "toxicity": lambda s: s["toxicity.toxicity"] >= 0.5,
}


class Counting(Remembering):
    """Counts what it is asked, read or remembered."""

    asked = 0

    def read(self, text: str, spans: Sequence[tuple[int, int]]) -> Any:
        self.asked += 1
        return super().read(text, spans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--step", type=int, default=60, help="every so manieth document")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    paths = sorted(p for p in arguments.data.glob("*.jsonl.zst") if "other_languages" not in p.name)
    texts = pa.array([str(row["text"]) for p in paths for i, row in enumerate(read_rows(p)) if i % arguments.step == 0])
    scorer = Scorer(ScoringSettings(), {"toxicity", "context"})
    shipped = scorer._cascade.low
    memory = Counting(scorer._cascade.encoder)
    scorer._cascade = replace(scorer._cascade, encoder=memory)
    rows = []
    for level in (0.0, *sorted({*LEVELS, shipped})):
        scorer._cascade = replace(scorer._cascade, low=level)
        memory.asked = 0
        columns = scorer.score(texts)
        numbers = {n: np.nan_to_num(np.asarray(c, float)) for n, c in columns.items() if pa.types.is_floating(c.type)}
        caught = {name: judge(numbers) for name, judge in CATCHES.items()}
        if level == 0.0:
            alone, windows = caught, memory.asked
        read = np.asarray(columns["toxicity.stage"]) != "fasttext"
        found = {name: rate(mask[alone[name]]).plain() for name, mask in caught.items()}
        rows.append({"from": level, "documents": float(read.mean()), "windows": memory.asked / windows, "kept": found})
    print(f"{len(texts):,} documents, {windows:,} windows; the shipped level is {shipped}\n")
    print("| read from | documents read | windows read | `curated` catches kept | `toxicity` catches kept |")
    print("|---|---|---|---|---|")
    for row in rows:
        cells = [f"{100 * f['value']:.0f} % ({100 * f['low']:.0f}–{100 * f['high']:.0f}) of {f['rows']}"
                 for f in row["kept"].values()]  # fmt: skip
        share = f"{100 * row['documents']:.1f} % | {100 * row['windows']:.1f} %"
        print(f"| {row['from']} | {share} | {' | '.join(cells)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
