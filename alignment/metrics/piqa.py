"""PIQA (Bisk 2019, arXiv 1911.11641): which of two solutions works."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `query` (`Question: …`), `choices`, `gold` (index)"


def question(row: dict[str, Any]) -> Question:
    """Each solution after `Answer:`."""
    asked = row["query"].rstrip() + "\nAnswer:"
    return Question(
        str(row["id"]), (asked,), tuple(" " + choice for choice in row["choices"]), frozenset((int(row["gold"]),))
    )


METRICS.add(
    "piqa", choice_metric("piqa", "which of two solutions works", HOW, ("id", "query", "choices", "gold"), question)
)
