"""Scores and labels → AUROC, AUPRC, recall at a false-positive rate, each with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    rng = np.random.default_rng(seed)
    n = len(score)
    values = []
    for _ in range(REPEATS):
        index = rng.integers(0, n, n)
        values.append(function(score[index], positive[index]))
    low, high = np.nanpercentile(values, [2.5, 97.5]) if n else (float("nan"), float("nan"))
    return Metric(round(function(score, positive), 4), round(float(low), 4), round(float(high), 4), n)


def rate(hits: npt.NDArray[np.bool_]) -> Metric:
    """A share with its Wilson 95 % interval (Wilson 1927); NaN of nothing."""
    n = len(hits)
    if not n:
        return Metric(float("nan"), float("nan"), float("nan"), 0)
    z, p = 1.96, float(hits.mean())
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Metric(round(p, 4), round(max(centre - half, 0.0), 4), round(min(centre + half, 1.0), 4), n)
