"""How well one human annotator tells use from mention, judged as we are: `python -m benchmarks.label_ceiling`.

In: Davidson et al., the one labelled set that keeps its votes (three a tweet; tweets of more votes are left out). Each
annotator is judged by the other two, where those agree: uses found are the votes "hate" on tweets both others call
hate, mentions called use the votes "hate" on tweets both others call neither. Out: both shares with Wilson intervals,
over all tweets and over those with a demeaning term, and the same for the coarser question (hate or offensive).
No model is read: what one reader disagrees with the next about, no model can get right for both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.natural_mentions import DEMEANING, Terms
from benchmarks.systems import DATA
from classifiers.evaluate import Metric, rate
from classifiers.labelled import read_rows

CLASSES = ("hate", "offensive", "neither")
VOTES = 3


def judged(
    votes: Sequence[Sequence[int]], positive: tuple[int, ...], negative: tuple[int, ...]
) -> tuple[Metric, Metric]:
    """Shares of annotators who say one of `positive` where the other two agree on one of `positive`, or of `negative`.

    Args:
        votes: per tweet the number of votes of each class, VOTES in all.
        positive, negative: classes that count as yes and as no.
    """
    found: list[bool] = []
    wrong: list[bool] = []
    for counts in votes:
        for vote in range(len(counts)):
            others = [n - (k == vote) for k, n in enumerate(counts)]
            answers = [vote in positive] * counts[vote]
            if sum(others[k] for k in positive) == VOTES - 1:
                found += answers
            elif sum(others[k] for k in negative) == VOTES - 1:
                wrong += answers
    return rate(np.array(found, bool)), rate(np.array(wrong, bool))


def votes_of(row: dict[str, Any]) -> list[int]:
    return [int(row["labels"][f"votes_{name}"]) for name in CLASSES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    rows = [r for r in read_rows(options.data / "toxicity" / "davidson.jsonl.zst") if sum(votes_of(r)) == VOTES]
    holds = [bool(found) for found in Terms().entries([row["text"] for row in rows], DEMEANING)]
    chosen = {"all": rows, "with a demeaning term": [row for row, held in zip(rows, holds, strict=True) if held]}
    questions = {"hate, against neither": ((0,), (2,)), "hate, against offensive or neither": ((0,), (1, 2)),
                 "hate or offensive, against neither": ((0, 1), (2,))}  # fmt: skip
    print("| tweets | question | found | called so wrongly |\n|---|---|---|---|")
    for title, some in chosen.items():
        for question, (positive, negative) in questions.items():
            found, wrong = judged([votes_of(row) for row in some], positive, negative)
            print(f"| {title} ({len(some):,}) | {question} | {_cell(found)} | {_cell(wrong)} |")


def _cell(metric: Metric) -> str:
    return f"{100 * metric.value:.0f} % ({100 * metric.low:.0f}–{100 * metric.high:.0f}) of {metric.rows:,}"


if __name__ == "__main__":
    main()
