"""WinoGrande (Sakaguchi 2019, arXiv 1907.10641), partial scoring: the same end after either filling of the gap."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `context_options`, `continuation`, `gold` (index)"


def question(row: dict[str, Any]) -> Question:
    """The same end after every filling."""
    fillings = tuple(row["context_options"])
    return Question(
        str(row["id"]), fillings, (" " + row["continuation"],) * len(fillings), frozenset((int(row["gold"]),))
    )


METRICS.add(
    "winogrande",
    choice_metric(
        "winogrande", "which name a gap stands for", HOW, ("id", "context_options", "continuation", "gold"), question
    ),
)
