"""OpenBookQA (Mihaylov 2018, arXiv 1809.02789): elementary science, the question as the context."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `query`, `choices`, `gold` (index)"


class OpenbookQaSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: OpenbookQaSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "openbook_qa", ("id", "query", "choices", "gold"), HOW, settings.limit)
    return [
        Question(
            str(row["id"]),
            (row["query"],),
            tuple(" " + choice for choice in row["choices"]),
            frozenset((int(row["gold"]),)),
        )
        for row in rows
    ]


def measure(model: LanguageModel, settings: OpenbookQaSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "openbook_qa", questions(settings))


METRICS.add(
    "openbook_qa",
    MetricDefinition(
        "openbook_qa",
        "elementary science questions",
        choice_endpoints("openbook_qa"),
        OpenbookQaSettings,
        measure,
        {"data": HOW},
        questions,
    ),
)
