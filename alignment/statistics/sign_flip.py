"""The sign-flip test of paired differences, one a training seed.

If curation does nothing, the label of the arms is a coin for each seed, and so is the sign of its difference. The test
counts over all sign patterns how often the mean is at least as far from zero. It assumes no distribution, and it says
how small its p can get: with n seeds 2^(1 − n), so five seeds cannot reach 0.05.

Source: Fisher (1935), The Design of Experiments, section 21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

EXACT_UP_TO = 16  # 65,536 patterns
FLIPS = 99_999  # patterns drawn above that; with the one observed 100,000 (Davison and Hinkley 1997, section 4.2)
# Sums of the same numbers in another order differ by rounding; such a tie counts as "at least as far".
TIE = 1e-12


@dataclass(frozen=True)
class SignFlip:
    """A p-value with the smallest that this number of differences can give. `p` is None without any difference."""

    p: float | None
    minimum_p: float
    n: int
    exact: bool


def minimum_p(n: int, alternative: Alternative = "two-sided") -> float:
    """The smallest p-value that n differences can give."""
    return min(1.0, 2.0 ** (1 - n if alternative == "two-sided" else -n))


def sign_flip(
    differences: F64, alternative: Alternative = "two-sided", shift: float = 0.0, seed: int = 0, flips: int = FLIPS
) -> SignFlip:
    """The test that the differences are symmetric about `shift`.

    Args:
        differences: shape (n,); differences that are not finite make the test impossible (p None).
        alternative: `greater`: the mean is above `shift`.
        seed: of the patterns drawn when n > 16.
    """
    n = len(differences)
    least = minimum_p(n, alternative)
    if n == 0 or not np.isfinite(differences).all():
        return SignFlip(None, least, n, True)
    moved = differences - shift
    exact = n <= EXACT_UP_TO
    sums = all_sums(moved) if exact else _drawn_sums(moved, seed, flips)
    p = float((_as_extreme(sums, float(moved.sum()), alternative) + (not exact)) / (len(sums) + (not exact)))
    return SignFlip(p, least if exact else max(least, 1 / (len(sums) + 1)), n, exact)


def all_sums(values: F64) -> F64:
    """Σ ± values over all 2^n patterns, shape (2^n,)."""
    sums: F64 = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums + value, sums - value))
    return sums


def patterns(n: int) -> F64:
    """All ±1 patterns of n signs, shape (2^n, n)."""
    bits = np.arange(1 << n)[:, None] >> np.arange(n) & 1
    return np.asarray(1 - 2 * bits, dtype=np.float64)


def _drawn_sums(values: F64, seed: int, flips: int) -> F64:
    generator = np.random.Generator(np.random.PCG64(seed))
    sums = np.empty(flips)
    step = max(1, 4_000_000 // len(values))
    for first in range(0, flips, step):
        count = min(step, flips - first)
        sums[first : first + count] = (1.0 - 2.0 * generator.integers(0, 2, (count, len(values)), np.int8)) @ values
    return sums


def _as_extreme(sums: F64, observed: float, alternative: Alternative) -> int:
    slack = TIE * max(math.fabs(observed), float(np.abs(sums).max()))
    if alternative == "greater":
        return int(np.count_nonzero(sums >= observed - slack))
    if alternative == "less":
        return int(np.count_nonzero(sums <= observed + slack))
    return int(np.count_nonzero(np.abs(sums) >= abs(observed) - slack))
