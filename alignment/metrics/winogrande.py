"""WinoGrande (Sakaguchi 2019, arXiv 1907.10641), partial scoring: the same end after either filling of the gap."""

from __future__ import annotations

from alignment.metrics.base import METRICS, MetricDefinition, Scores
from alignment.metrics.choices import Question, choice_endpoints, score_questions
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `context_options`, `continuation`, `gold` (index)"


class WinograndeSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def questions(settings: WinograndeSettings) -> list[Question]:
    """The file's rows as questions."""
    rows = rows_of(settings.data, "winogrande", ("id", "context_options", "continuation", "gold"), HOW, settings.limit)
    return [
        Question(
            str(row["id"]),
            tuple(row["context_options"]),
            (" " + row["continuation"],) * len(row["context_options"]),
            frozenset((int(row["gold"]),)),
        )
        for row in rows
    ]


def measure(model: LanguageModel, settings: WinograndeSettings) -> Scores:
    """Item scores of the four endpoints."""
    return score_questions(model, "winogrande", questions(settings))


METRICS.add(
    "winogrande",
    MetricDefinition(
        "winogrande",
        "which name a gap stands for",
        choice_endpoints("winogrande"),
        WinograndeSettings,
        measure,
        {"data": HOW},
        questions,
    ),
)
