"""BLiMP (Warstadt 2020, arXiv 1912.00582): the grammatical sentence of a minimal pair is the likelier one."""

from __future__ import annotations

from typing import Any

from alignment.metrics.base import METRICS
from alignment.metrics.choices import Question, choice_metric

HOW = "JSONL with `id`, `sentence_good`, `sentence_bad`, `UID` (paradigm)"


def question(row: dict[str, Any]) -> Question:
    """Both sentences from their start; pairs of one paradigm are not independent."""
    sentences = (row["sentence_good"], row["sentence_bad"])
    return Question(str(row["id"]), ("",), sentences, frozenset((0,)), str(row["UID"]))


METRICS.add(
    "blimp",
    choice_metric(
        "blimp",
        "the grammatical sentence of a minimal pair",
        HOW,
        ("id", "sentence_good", "sentence_bad", "UID"),
        question,
    ),
)
