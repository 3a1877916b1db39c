"""Whether more of a cause gives more of an effect, and whether judges agree about the order of arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignment.statistics.sign_flip import SignFlip, sign_flip

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """A dose–response over arms."""

    means: list[float]  # of each dose, in order of dose
    monotone: bool  # no step goes against the direction of the whole
    slopes: list[float]  # least squares, one a seed: change per unit of dose
    slope: float
    slope_test: SignFlip
    page_p: float | None  # Page's L of an increase (or, for a negative slope, a decrease); None below three doses


def dose_response(values: F64, doses: F64) -> Trend:
    """The trend of a metric over doses.

    Args:
        values: shape (seeds, doses), every seed at every dose.
        doses: shape (doses,), increasing.
    """
    centred = doses - doses.mean()
    slopes = (values - values.mean(axis=1, keepdims=True)) @ centred / float(centred @ centred)
    slope = float(slopes.mean())
    means = values.mean(axis=0)
    steps = np.diff(means) * (1 if slope >= 0 else -1)
    ordered = values if slope >= 0 else values[:, ::-1]
    page = float(stats.page_trend_test(ordered).pvalue) if values.shape[1] >= 3 and values.shape[0] >= 2 else None
    monotone = bool((steps >= 0).all())
    return Trend(means.tolist(), monotone, slopes.tolist(), slope, sign_flip(slopes), page)


@dataclass(frozen=True)
class Agreement:
    """Kendall's τ-b of two orders of the same arms, with its exact p where ties allow one."""

    tau: float | None  # None: a judge sees no difference between any arms
    p: float | None
    arms: int


def kendall(first: F64, second: F64) -> Agreement:
    """Agreement of two judges about the order of arms. With few arms even full agreement may be chance: see p."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Agreement(None, None, len(first))
    found = stats.kendalltau(first, second)
    return Agreement(float(found.statistic), float(found.pvalue), len(first))
