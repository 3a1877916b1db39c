"""How large an effect is, in sizes that readers of other papers know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

# Iglewicz and Hoaglin 1993, "How to detect and handle outliers": |modified z| > 3.5
OUTLIER = 3.5


@dataclass(frozen=True)
class EffectSizes:
    """None where a size has no value: too few seeds, a mean of zero, scores that are not shares."""

    d_z: float | None  # mean difference of seeds over their standard deviation (Lakens 2013)
    cliffs_delta: float | None  # P(treatment item > control item) − P(<), seeds pooled (Cliff 1993)
    percent_change: float | None  # of the control's mean
    log_ratio: float | None
    risk_difference: float | None  # scores that are all 0 or 1
    odds_ratio: float | None


def effect_sizes(per_seed: F64, treatment: F64, control: F64) -> EffectSizes:
    """All sizes of one contrast.

    Args:
        per_seed: difference of each seed.
        treatment, control: the scores of all items and seeds, any shape; NaN is missing.
    """
    first, second = treatment[~np.isnan(treatment)], control[~np.isnan(control)]
    if not len(first) or not len(second):
        return EffectSizes(d_z(per_seed), None, None, None, None, None)
    mean, base = float(first.mean()), float(second.mean())
    binary = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    return EffectSizes(
        d_z=d_z(per_seed),
        cliffs_delta=cliffs_delta(first, second),
        percent_change=100 * (mean / base - 1) if base > 0 and mean >= 0 else None,
        log_ratio=math.log(mean / base) if mean > 0 and base > 0 else None,
        risk_difference=mean - base if binary else None,
        odds_ratio=odds_ratio(first, second) if binary else None,
    )


def d_z(differences: F64) -> float | None:
    """Mean of paired differences in their own standard deviations; None for one difference or none that vary."""
    if len(differences) < 2 or not np.isfinite(differences).all():
        return None
    deviation = float(differences.std(ddof=1))
    return float(differences.mean()) / deviation if deviation > 0 else None


def cliffs_delta(first: F64, second: F64) -> float:
    """P(x > y) − P(x < y) for x of `first` and y of `second`: −1 … 1, and 0 when neither tends to be larger."""
    ordered = np.sort(second)
    smaller = np.searchsorted(ordered, first, "left").sum()
    larger = (len(second) - np.searchsorted(ordered, first, "right")).sum()
    return float(smaller - larger) / (len(first) * len(second))


def odds_ratio(first: F64, second: F64) -> float:
    """Odds of 1 in `first` over those in `second`; half a case is added everywhere when a cell is empty (Haldane)."""
    cells = np.array([first.sum(), len(first) - first.sum(), second.sum(), len(second) - second.sum()])
    if (cells == 0).any():
        cells = cells + 0.5
    return float(cells[0] * cells[3] / (cells[1] * cells[2]))


def outliers(values: F64) -> list[int]:
    """Positions of values far from the median: 0.6745·|x − median| over the median absolute deviation above 3.5."""
    if len(values) < 4 or not np.isfinite(values).all():
        return []  # of three values two always agree better than the third
    apart = np.abs(values - np.median(values))
    typical = float(np.median(apart))
    if typical == 0:
        return []
    return [int(at) for at in np.flatnonzero(0.6745 * apart / typical > OUTLIER)]
