"""HellaSwag (Zellers 2019, arXiv 1905.07830): which sentence goes on; `query` joins label and context."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `query`, `choices`, `gold` (index), from the validation split"


class HellaswagSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: HellaswagSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "hellaswag", ("id", "query", "choices", "gold"), HOW, settings.limit)
    return [
        Question(
            str(row["id"]),
            (row["query"],),
            tuple(" " + choice for choice in row["choices"]),
            frozenset((int(row["gold"]),)),
        )
        for row in rows
    ]


def measure(model: LanguageModel, settings: HellaswagSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "hellaswag", questions(settings))


METRICS.add(
    "hellaswag",
    MetricDefinition(
        "hellaswag",
        "which sentence goes on",
        choice_endpoints("hellaswag"),
        HellaswagSettings,
        measure,
        {"data": HOW},
        questions,
    ),
)
