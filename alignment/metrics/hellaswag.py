"""HellaSwag (Zellers 2019, arXiv 1905.07830): which sentence goes on; `query` joins label and context."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `query`, `choices`, `gold` (index), from the validation split"


def question(row: dict[str, Any]) -> Question:
    """Each ending after the query."""
    return Question(
        str(row["id"]),
        (row["query"],),
        tuple(" " + choice for choice in row["choices"]),
        frozenset((int(row["gold"]),)),
    )


METRICS.add(
    "hellaswag", choice_metric("hellaswag", "which sentence goes on", HOW, ("id", "query", "choices", "gold"), question)
)
