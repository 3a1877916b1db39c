"""Effort that may never have sufficed: comparison of values of which some are only known to be larger than was tried.

Such a value is +inf here. Its mean has no meaning, so the median is reported, its interval comes from order statistics,
and the test is the sign-flip test of the signs, which is the exact sign test.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignment.statistics.contrast import Scale
from alignment.statistics.sign_flip import SignFlip, sign_flip

F64 = npt.NDArray[np.float64]


def censored_differences(treatment: F64, control: F64, scale: Scale) -> F64:
    """Treatment minus control, or the log of their ratio; 0 where neither reached the level.

    Args:
        treatment, control: one a seed, +inf where the level was never reached.
    """
    both = np.isinf(treatment) & np.isinf(control)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.log(treatment) - np.log(control) if scale == "log_ratio" else treatment - control
    return np.asarray(np.where(both, 0.0, apart), dtype=np.float64)


def median(values: F64) -> float:
    """The median, NaN where it lies between −inf and +inf."""
    with np.errstate(invalid="ignore"):
        return float(np.median(values))


def sign_test(differences: F64) -> SignFlip:
    """The exact two-sided sign test; ties count for neither side."""
    return sign_flip(np.sign(differences))


def median_interval(values: F64, level: float) -> tuple[float, float] | None:
    """The shortest symmetric pair of order statistics that covers the median with at least `level`.

    None for so few values that not even the smallest and the largest do: five, at 95 %. Bounds may be infinite.
    Source: Conover (1999), Practical Nonparametric Statistics, section 3.2.
    """
    n = len(values)
    rank = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    while rank > 0 and 1 - 2 * stats.binom.cdf(rank - 1, n, 0.5) < level:
        rank -= 1
    if rank < 1:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[n - rank])
