"""LAMBADA (Paperno 2016, arXiv 1606.06031): the last word of a passage."""

from __future__ import annotations

import math

from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `context`, `continuation` (the last word)"
ENDPOINTS = (
    Endpoint("lambada.bits_per_byte", "bits", False, "of the last word given the passage"),
    Endpoint("lambada.accuracy", "share", True, "each token of the last word is the likeliest"),
)


class LambadaSettings(Settings):
    """Which file, and how many of its rows."""

    data: str
    limit: int | None = None


def measure(model: LanguageModel, settings: LambadaSettings) -> Scores:
    """Item scores of both endpoints."""
    rows = rows_of(settings.data, "lambada", ("id", "context", "continuation"), HOW, settings.limit)
    pairs = [(row["context"].rstrip(), " " + row["continuation"].strip()) for row in rows]
    scores: Scores = {endpoint.name: [] for endpoint in ENDPOINTS}
    for row, answer in zip(rows, model.likelihoods(pairs), strict=True):
        bits = -answer.nats / math.log(2) / len(row["continuation"].strip().encode())
        scores["lambada.bits_per_byte"].append(ItemScore(str(row["id"]), bits))
        scores["lambada.accuracy"].append(ItemScore(str(row["id"]), float(answer.greedy)))
    return scores


METRICS.add(
    "lambada",
    MetricDefinition("lambada", "the last word of a passage", ENDPOINTS, LambadaSettings, measure, {"data": HOW}),
)
