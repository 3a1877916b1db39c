"""OpenBookQA (Mihaylov 2018, arXiv 1809.02789): elementary science, the question as the context."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `query`, `choices`, `gold` (index)"


def question(row: dict[str, Any]) -> Question:
    """Each answer after the question."""
    return Question(
        str(row["id"]),
        (row["query"],),
        tuple(" " + choice for choice in row["choices"]),
        frozenset((int(row["gold"]),)),
    )


METRICS.add(
    "openbook_qa",
    choice_metric("openbook_qa", "elementary science questions", HOW, ("id", "query", "choices", "gold"), question),
)
