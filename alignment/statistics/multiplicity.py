"""P-values adjusted for how many endpoints are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the chance of one false claim among all (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the expected share of false claims (Benjamini and Hochberg 1995)."""
    if not p_values:
        return []
    return [float(value) for value in stats.false_discovery_control(np.asarray(p_values, dtype=np.float64))]


def smallest_adjusted(p: float, endpoints: int) -> float:
    """The smallest p that Holm can leave of `p` when all endpoints give it: p itself times their number, at most 1."""
    return min(1.0, p * endpoints)
