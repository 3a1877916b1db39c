"""BLiMP (Warstadt 2020, arXiv 1912.00582): the grammatical sentence of a minimal pair is the likelier one."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `sentence_good`, `sentence_bad`, `UID` (paradigm)"


class BlimpSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: BlimpSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "blimp", ("id", "sentence_good", "sentence_bad", "UID"), HOW, settings.limit)
    return [
        Question(str(row["id"]), ("",), (row["sentence_good"], row["sentence_bad"]), frozenset((0,)), str(row["UID"]))
        for row in rows
    ]


def measure(model: LanguageModel, settings: BlimpSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "blimp", questions(settings))


METRICS.add(
    "blimp",
    MetricDefinition(
        "blimp",
        "the grammatical sentence of a minimal pair",
        choice_endpoints("blimp"),
        BlimpSettings,
        measure,
        {"data": HOW},
        questions,
    ),
)
