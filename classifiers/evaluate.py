"""Scores and labels → areas, operating points, reliability, and what two systems differ by, each with its interval.

Areas carry percentile-bootstrap intervals over rows, shares Wilson intervals. Rows are taken as independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
REPEATS = 200  # bootstrap resamples: enough for two digits, and quick


@dataclass(frozen=True)
class Metric:
    """A number with its 95 % bootstrap interval and the rows it was measured on."""

    value: float
    low: float
    high: float
    rows: int

    def plain(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "rows": self.rows}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def auroc(score: F64, positive: F64) -> float:
    """Probability that a random positive outscores a random negative, ties counted half; NaN without both classes.

    Source: Mann-Whitney U over n1·n0 (Hanley and McNeil 1982).
    """
    from scipy.stats import rankdata

    ones = float(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    return float((rankdata(score)[positive == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(score: F64, positive: F64) -> float:
    """Area under the precision-recall curve as the mean precision at each positive, ties in one step."""
    if not positive.sum():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.r_[np.diff(score[order]) != 0, True]
    found, seen = hits[last], np.flatnonzero(last) + 1
    return float((np.diff(np.r_[0.0, found]) * found / seen).sum() / positive.sum())


def recall_at_fpr(score: F64, positive: F64, fpr: float) -> float:
    """Recall at the lowest threshold that at most `fpr` of the negatives exceed."""
    negatives = np.sort(score[positive == 0])
    if not len(negatives) or not positive.sum():
        return float("nan")
    allowed = int(fpr * len(negatives) + 1e-9)
    threshold = negatives[len(negatives) - 1 - min(allowed, len(negatives) - 1)]
    return float((score[positive == 1] > threshold).mean())


def with_interval(function: Callable[[F64, F64], float], score: F64, positive: F64, seed: int = 0) -> Metric:
    """`function(score, positive)` and its percentile-bootstrap interval over rows."""
    if not len(score):
        return Metric(float("nan"), float("nan"), float("nan"), 0)
    return interval(function(score, positive), resampled(function, score, positive, seed), len(score))


def resampled(function: Callable[[F64, F64], float], score: F64, positive: F64, seed: int = 0) -> F64:
    """`function` on REPEATS resamples of the rows, shape (REPEATS,).

    The seed and the number of rows alone settle the resamples, so two scores of the same rows are drawn alike and their
    values may be subtracted: a paired bootstrap.
    """
    rng = np.random.default_rng(seed)
    n = len(score)
    values = np.empty(REPEATS)
    for repeat in range(REPEATS):
        index = rng.integers(0, n, n)
        values[repeat] = function(score[index], positive[index])
    return values


def interval(value: float, resamples: F64, rows: int) -> Metric:
    """`value` with the 2.5 and 97.5 percentiles of `resamples`, NaN left out, rounded to four digits."""
    usable = resamples[~np.isnan(resamples)]
    low, high = np.percentile(usable, [2.5, 97.5]) if len(usable) else (float("nan"), float("nan"))
    return Metric(round(value, 4), round(float(low), 4), round(float(high), 4), rows)


def paired_difference(
    function: Callable[[F64, F64], float], first: F64, second: F64, positive: F64, seed: int = 0
) -> Metric:
    """`function` of `first` minus that of `second` on the same rows, with its paired-bootstrap interval.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
    """
    draws = resampled(function, first, positive, seed) - resampled(function, second, positive, seed)
    return interval(function(first, positive) - function(second, positive), draws, len(positive))


def rate(hits: npt.NDArray[np.bool_]) -> Metric:
    """A share with its Wilson 95 % interval (Wilson 1927); NaN of nothing."""
    n = len(hits)
    if not n:
        return Metric(float("nan"), float("nan"), float("nan"), 0)
    z, p = 1.96, float(hits.mean())
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Metric(round(p, 4), round(max(centre - half, 0.0), 4), round(min(centre + half, 1.0), 4), n)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold (a score at or above it is called positive) with the recall and the error it gives.

    `recall` is the share of positives called positive, `error` the share of negatives called positive.
    """

    threshold: float
    recall: Metric
    error: Metric

    def plain(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "recall": self.recall.plain(), "error": self.error.plain()}


def operating_point(score: F64, positive: F64, threshold: float) -> OperatingPoint:
    """What calling `score >= threshold` positive does; Wilson intervals, NaN for a class without rows."""
    called = score >= threshold
    return OperatingPoint(threshold, rate(called[positive == 1]), rate(called[positive == 0]))


def point_at_recall(score: F64, positive: F64, recall: float) -> OperatingPoint:
    """The point of the highest threshold at which at least `recall` of the positives are called positive.

    A score of few distinct values may have no such threshold short of its lowest value; then everything is called.
    """
    ones = np.sort(score[positive == 1])[::-1]
    if not len(ones):
        return operating_point(score, positive, float("inf"))
    return operating_point(score, positive, float(ones[max(int(np.ceil(recall * len(ones) - 1e-9)) - 1, 0)]))


def point_at_error(score: F64, positive: F64, error: float) -> OperatingPoint:
    """The point of the lowest threshold at which at most `error` of the negatives are called positive."""
    zeros = np.sort(score[positive == 0])
    if not len(zeros):
        return operating_point(score, positive, float("-inf"))
    allowed = int(error * len(zeros) + 1e-9)
    above = np.unique(score[score > zeros[len(zeros) - 1 - allowed]]) if allowed < len(zeros) else np.unique(score)
    return operating_point(score, positive, float(above[0]) if len(above) else float("inf"))


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose stated probability falls between two bounds: the mean stated, and the share that was positive."""

    low: float
    high: float
    stated: float
    observed: Metric


def reliability(probability: F64, positive: F64, bins: int = 10) -> list[ReliabilityBin]:
    """The reliability diagram: bins of equal width over [0, 1], empty ones left out, Wilson intervals.

    Source:
        Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", ICML 2005, section 4.
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(
            at / bins, (at + 1) / bins, float(probability[index == at].mean()), rate(positive[index == at] > 0)
        )
        for at in np.unique(index).tolist()
    ]
