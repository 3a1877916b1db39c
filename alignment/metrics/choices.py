"""What all multiple-choice metrics share: the log-probability margin of the right answer, and accuracy beside it.

Small models sit near chance in accuracy while the margin still moves (DataDecide, arXiv 2504.11393: continuous proxies
decide > 80 % of comparisons at 0.01 % of the compute), so the margin is the endpoint to compare by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignment.metrics.base import Endpoint, ItemScore, MetricDefinition, Scores
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings


@dataclass(frozen=True)
class Question:
    """A context with its possible continuations; several may be right."""

    item_id: str
    contexts: tuple[str, ...]  # one for all choices, or one a choice (WinoGrande)
    choices: tuple[str, ...]
    right: frozenset[int]
    cluster: str = ""


class ChoiceSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None  # the first rows; None: all


def choice_metric(
    name: str, summary: str, how: str, fields: Sequence[str], question: Callable[[dict[str, Any]], Question]
) -> MetricDefinition:
    """A metric of questions with choices.

    Args:
        how: what the file is, as an error says it where the file is missing.
        fields: what every row must have.
        question: a row as a question.
    """

    def questions(settings: ChoiceSettings) -> list[Question]:
        return [question(row) for row in rows_of(settings.data, name, fields, how, settings.limit)]

    def measure(model: LanguageModel, settings: ChoiceSettings) -> Scores:
        return score_questions(model, name, questions(settings))

    return MetricDefinition(name, summary, choice_endpoints(name), ChoiceSettings, measure, {"data": how}, questions)


def choice_endpoints(metric: str) -> tuple[Endpoint, ...]:
    """Margin, accuracy (by summed log-probability, and by it per byte) and bits per byte of the right answer."""
    return (
        Endpoint(f"{metric}.margin", "nats per byte", True, "best right answer − best wrong answer"),
        Endpoint(f"{metric}.accuracy", "share", True, "the likeliest choice is right (lm-eval `acc`)"),
        Endpoint(f"{metric}.accuracy_per_byte", "share", True, "the same with log-probability per byte (`acc_norm`)"),
        Endpoint(f"{metric}.bits_per_byte", "bits", False, "of the right answer given the question"),
    )


def score_questions(model: LanguageModel, metric: str, questions: Sequence[Question]) -> Scores:
    """The four endpoints of `choice_endpoints` for every question."""
    pairs, owners = [], []
    for number, question in enumerate(questions):
        contexts = question.contexts if len(question.contexts) > 1 else question.contexts * len(question.choices)
        for context, choice in zip(contexts, question.choices, strict=True):
            pairs.append((context, choice))
            owners.append(number)
    answers = model.likelihoods(pairs)
    scores: Scores = {endpoint.name: [] for endpoint in choice_endpoints(metric)}
    at = 0
    for question in questions:
        mine = answers[at : at + len(question.choices)]
        at += len(question.choices)
        total = [answer.nats for answer in mine]
        per_byte = [
            answer.nats / max(1, len(choice.strip().encode()))
            for answer, choice in zip(mine, question.choices, strict=True)
        ]
        wrong = [value for k, value in enumerate(per_byte) if k not in question.right]
        best = max(question.right, key=lambda k: per_byte[k])
        values = (
            per_byte[best] - max(wrong),
            float(max(range(len(total)), key=total.__getitem__) in question.right),
            float(max(range(len(total)), key=per_byte.__getitem__) in question.right),
            -per_byte[best] / 0.6931471805599453,
        )
        for endpoint, value in zip(scores, values, strict=True):
            scores[endpoint].append(ItemScore(question.item_id, value, question.cluster))
    return scores
