"""What a design could have found: power of the tests that are used, and the least effect they detect.

Printed beside every result that is not significant: "no difference" from a design that could not see one says nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from alignment.statistics.sign_flip import minimum_p, patterns

F64 = npt.NDArray[np.float64]

POWER = 0.8  # Cohen 1988, section 2.4
REPLAYS = 4_000  # simulated experiments: a power of 0.8 is known to ± 0.013
SIMULATED_UP_TO = 9  # seeds; above, the sign-flip test has the power of the t-test to within a hundredth


def sign_flip_power(seeds: int, effect: float, alpha: float) -> float:
    """Power of the two-sided sign-flip test for normal differences of mean `effect` and standard deviation 1.

    Simulated for up to 9 seeds with the same numbers at every call, above that the power of the t-test.
    """
    if minimum_p(seeds) > alpha:
        return 0.0
    if seeds > SIMULATED_UP_TO:
        return t_power(seeds - 1, effect * math.sqrt(seeds), alpha)
    signs, noise = _replays(seeds)
    data = noise + effect
    # The other half of the patterns are these with all signs turned: both tails at once.
    sums = np.abs(data @ signs.T)
    observed = np.abs(data.sum(axis=1, keepdims=True))
    p = (sums >= observed * (1 - 1e-12)).mean(axis=1)
    return float((p <= alpha).mean())


def t_power(freedom: float, noncentrality: float, alpha: float) -> float:
    """Power of a two-sided t-test.

    The mean over the chi-square distribution of the variance, by quadrature: SciPy's noncentral t gives NaN for some
    fractional degrees of freedom.
    """
    bound = float(stats.t.ppf(1 - alpha / 2, freedom)) * _root_variances(freedom)
    beyond = special.ndtr(noncentrality - bound) + special.ndtr(-bound - noncentrality)
    return float(beyond @ _NODES[1])


@lru_cache(maxsize=256)
def detectable_by_sign_flip(seeds: int, alpha: float, power: float = POWER) -> float | None:
    """The mean that the sign-flip test finds with `power`, in standard deviations of the differences of seeds.

    None: no effect is large enough, because the smallest p that so many seeds can give is above alpha.
    """
    if minimum_p(seeds) > alpha:
        return None
    low, high = 0.0, 1.0
    while sign_flip_power(seeds, high, alpha) < power:
        low, high = high, 2 * high
    for _ in range(14):  # to 1e-4 of a standard deviation
        middle = (low + high) / 2
        low, high = (middle, high) if sign_flip_power(seeds, middle, alpha) < power else (low, middle)
    return high


@lru_cache(maxsize=1024)
def detectable_by_t(freedom: float, alpha: float, power: float = POWER) -> float:
    """The effect that an interval of level 1 − alpha excludes zero for with `power`, in standard errors."""

    def gap(noncentrality: float) -> float:
        return t_power(freedom, noncentrality, alpha) - power

    high = 4.0
    while gap(high) < 0:
        high *= 2
    return float(optimize.brentq(gap, 0.0, high, xtol=1e-6))


def minimum_detectable_effect(
    differences: F64, error: float | None, freedom: float | None, alpha: float, power: float = POWER
) -> float | None:
    """The least effect that both the sign-flip test and the interval find with `power`, in the effect's unit.

    Args:
        differences: one a seed; their standard deviation is taken for the true one.
        error, freedom: of the interval over seeds and prompts.
        alpha: of each test, after correction for the number of endpoints.

    Returns:
        None where no effect can be found: too few seeds.
    """
    seeds = len(differences)
    if seeds < 2 or error is None or freedom is None or not np.isfinite(differences).all():
        return None
    by_flips = detectable_by_sign_flip(seeds, alpha, power)
    if by_flips is None:
        return None
    by_interval = detectable_by_t(round(freedom, 2), alpha, power)
    return max(by_flips * float(differences.std(ddof=1)), by_interval * error)


@lru_cache(maxsize=64)
def _root_variances(freedom: float) -> F64:
    """Square roots of χ²/freedom at the nodes of the quadrature."""
    return np.asarray(np.sqrt(stats.chi2.ppf(_NODES[0], freedom) / freedom), dtype=np.float64)


def _unit_nodes(count: int) -> tuple[F64, F64]:
    """Gauss–Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


_NODES = _unit_nodes(200)  # within 2e-6 of statsmodels' power


@lru_cache(maxsize=16)
def _replays(seeds: int) -> tuple[F64, F64]:
    """Half of all sign patterns, and standard normal differences of shape (REPLAYS, seeds)."""
    noise = np.random.Generator(np.random.PCG64(seeds)).standard_normal((REPLAYS, seeds))
    return patterns(seeds)[: 1 << (seeds - 1)], noise
