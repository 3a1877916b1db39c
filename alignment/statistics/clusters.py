"""The mean over items that come in clusters, with a standard error that knows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusteredMean:
    """A weighted mean with its standard error and t-interval (clusters − 1 degrees of freedom); None: no value."""

    mean: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    clusters: int


def codes(names: Sequence[str]) -> tuple[I64, list[str]]:
    """A number for each name, and the distinct names in sorted order."""
    distinct, inverse = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    return inverse.astype(np.int64), distinct.tolist()


def clustered_interval(values: F64, clusters: Sequence[str], weights: F64, level: float = 0.95) -> ClusteredMean:
    """Mean, clustered standard error and interval of items.

    The error is that of a ratio of cluster sums, Σ w(x − mean) over each cluster, with the factor C/(C − 1) for C
    clusters. With equal weights it is the CR1-type estimator of Liang and Zeger (1986); for evaluations see Miller
    (2024, arXiv 2411.00640, section 2.2).

    Args:
        values: shape (items,).
        clusters: name of each item's cluster; items of different names are independent.
        weights: shape (items,), > 0.
    """
    if not len(values):
        return ClusteredMean(None, None, None, None, 0)
    at, names = codes(clusters)
    total = float(weights.sum())
    mean = float(weights @ values / total)
    count = len(names)
    if count < 2:
        return ClusteredMean(mean, None, None, None, count)
    sums = np.bincount(at, weights=weights * (values - mean), minlength=count)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / total
    reach = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    return ClusteredMean(mean, error, mean - reach, mean + reach, count)
