"""ARC, easy or challenge (Clark 2018, arXiv 1803.05457): school science questions."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `query` (`Question: …`), `choices`, `gold` (index); arc_easy or arc_challenge"


def question(row: dict[str, Any]) -> Question:
    """Each answer after `Answer:`."""
    asked = row["query"].rstrip() + "\nAnswer:"
    return Question(
        str(row["id"]), (asked,), tuple(" " + choice for choice in row["choices"]), frozenset((int(row["gold"]),))
    )


METRICS.add("arc", choice_metric("arc", "school science questions", HOW, ("id", "query", "choices", "gold"), question))
