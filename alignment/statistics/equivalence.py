"""Not worse, and alike: tests against a margin stated before training.

A difference that is not significant is no evidence of sameness. Non-inferiority asks whether the loss is smaller than
the margin, equivalence (two one-sided tests: Schuirmann 1987) whether the difference is, in either direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignment.statistics.sign_flip import SignFlip, minimum_p, sign_flip

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarginTest:
    """The verdict of a test against a margin.

    `shown`: the sign-flip test and the interval of level 1 − 2α both say so. `refuted`: the whole interval lies beyond
    the margin. Neither: not resolved.
    """

    p: float | None
    minimum_p: float
    shown: bool
    refuted: bool


def non_inferiority(
    gains: F64, low: float | None, high: float | None, margin: float, alpha: float, seed: int = 0
) -> MarginTest:
    """Whether a gain (positive is better) is more than −margin.

    Args:
        gains: one a seed.
        low, high: interval of the gain of level 1 − 2·alpha: one-sided at alpha.
        margin: > 0.
    """
    test = sign_flip(gains, "greater", -margin, seed)
    shown = test.p is not None and test.p <= alpha and low is not None and low > -margin
    return MarginTest(test.p, test.minimum_p, shown, high is not None and high < -margin)


def equivalence(
    differences: F64, low: float | None, high: float | None, margin: float, alpha: float, seed: int = 0
) -> MarginTest:
    """Whether a difference lies within ±margin: both one-sided tests at alpha, so p is the larger of the two."""
    tests: list[SignFlip] = [
        sign_flip(differences, "greater", -margin, seed),
        sign_flip(differences, "less", margin, seed),
    ]
    known = [test.p for test in tests if test.p is not None]
    p = max(known) if len(known) == 2 else None
    inside = low is not None and high is not None and low > -margin and high < margin
    outside = (low is not None and low > margin) or (high is not None and high < -margin)
    return MarginTest(p, minimum_p(len(differences), "less"), p is not None and p <= alpha and inside, outside)
