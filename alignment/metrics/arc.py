"""ARC, easy or challenge (Clark 2018, arXiv 1803.05457): school science questions."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `query` (`Question: …`), `choices`, `gold` (index); arc_easy or arc_challenge"


class ArcSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: ArcSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "arc", ("id", "query", "choices", "gold"), HOW, settings.limit)
    return [
        Question(
            str(row["id"]),
            (row["query"].rstrip() + "\nAnswer:",),
            tuple(" " + choice for choice in row["choices"]),
            frozenset((int(row["gold"]),)),
        )
        for row in rows
    ]


def measure(model: LanguageModel, settings: ArcSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "arc", questions(settings))


METRICS.add(
    "arc",
    MetricDefinition(
        "arc", "school science questions", choice_endpoints("arc"), ArcSettings, measure, {"data": HOW}, questions
    ),
)
