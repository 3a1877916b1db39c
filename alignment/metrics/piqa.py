"""PIQA (Bisk 2019, arXiv 1911.11641): which of two solutions works."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `query` (`Question: …`), `choices`, `gold` (index)"


class PiqaSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: PiqaSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "piqa", ("id", "query", "choices", "gold"), HOW, settings.limit)
    return [
        Question(
            str(row["id"]),
            (row["query"].rstrip() + "\nAnswer:",),
            tuple(" " + choice for choice in row["choices"]),
            frozenset((int(row["gold"]),)),
        )
        for row in rows
    ]


def measure(model: LanguageModel, settings: PiqaSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "piqa", questions(settings))


METRICS.add(
    "piqa",
    MetricDefinition(
        "piqa",
        "which of two solutions works",
        choice_endpoints("piqa"),
        PiqaSettings,
        measure,
        {"data": HOW},
        questions,
    ),
)
