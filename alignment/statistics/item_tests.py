"""Tests over items of two given checkpoints. They say nothing about another training run, and their labels say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignment.statistics.sign_flip import sign_flip

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class McNemar:
    """Items that only one of two checkpoints answers with 1, and the exact p that it is a coin's doing."""

    only_treatment: int
    only_control: int
    p: float


@dataclass(frozen=True)
class ItemTests:
    """Paired tests over independent items (or clusters of items); None where a test does not apply."""

    items: int
    wilcoxon_p: float | None
    permutation_p: float | None
    mcnemar: McNemar | None


def mcnemar(treatment: F64, control: F64) -> McNemar:
    """McNemar's exact test of paired 0/1 scores, shape (items,) each."""
    more, fewer = int(np.sum(treatment > control)), int(np.sum(treatment < control))
    p = float(stats.binomtest(min(more, fewer), more + fewer).pvalue) if more + fewer else 1.0
    return McNemar(more, fewer, p)


def item_tests(treatment: F64, control: F64, seed: int = 0) -> ItemTests:
    """Wilcoxon's signed ranks (ties at zero kept: Pratt 1959), a permutation of labels, McNemar for 0/1 scores.

    Args:
        treatment, control: paired means of independent items or clusters, shape (items,); NaN is missing.
    """
    known = ~(np.isnan(treatment) | np.isnan(control))
    first, second = treatment[known], control[known]
    if not len(first):
        return ItemTests(0, None, None, None)
    differences = first - second
    wilcoxon = None
    if np.any(differences):
        wilcoxon = float(stats.wilcoxon(differences, zero_method="pratt", method="auto").pvalue)
    binary = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    return ItemTests(
        len(first),
        wilcoxon,
        sign_flip(differences, seed=seed, flips=9_999).p,
        mcnemar(first, second) if binary else None,
    )
