"""Every test, size and rate against SciPy, statsmodels or arithmetic by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from alignment.statistics.bootstrap import Interval, crossed_interval, crossed_p
from alignment.statistics.censored import censored_differences, median_interval, sign_test
from alignment.statistics.contrast import Cells, Contrast
from alignment.statistics.equivalence import MarginTest, equivalence, non_inferiority, stricter
from alignment.statistics.multiplicity import benjamini_hochberg, holm, smallest_adjusted
from alignment.statistics.power import (
    detectable_by_sign_flip,
    detectable_by_t,
    minimum_detectable_effect,
    sign_flip_power,
    t_power,
)
from alignment.statistics.sign_flip import Alternative, minimum_p, patterns, sign_flip
from alignment.statistics.trend import dose_response, kendall


def numbers(root: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(root).normal(size=shape)


def permuted(values: np.ndarray, alternative: Alternative) -> float:
    """SciPy's exact paired permutation test."""
    how = {"permutation_type": "samples", "n_resamples": np.inf, "vectorized": True}
    mean = lambda x, axis: x.mean(axis=axis)
    return float(stats.permutation_test((values,), mean, alternative=alternative, **how).pvalue)


# --- sign flips


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("n", [2, 5, 6, 10])
def test_the_exact_sign_flip_test_is_the_paired_permutation_test_of_scipy(n: int, alternative: Alternative) -> None:
    for root in range(20):
        # Sums of multiples of 2^-10 are exact: SciPy's tolerance misses ties of sums near zero.
        values = np.round((numbers(root, n) + 0.5) * 1024) / 1024

        found = sign_flip(values, alternative)

        assert (found.p, found.exact) == (pytest.approx(permuted(values, alternative), abs=1e-12), True)


def test_the_smallest_p_of_n_seeds_is_two_to_the_one_minus_n_and_is_reached() -> None:
    for n in range(1, 17):
        found = sign_flip(np.arange(1.0, n + 1))

        assert found.p == found.minimum_p == minimum_p(n) == 2.0 ** (1 - n)
        assert sign_flip(np.arange(1.0, n + 1), "greater").p == minimum_p(n, "greater") == 2.0**-n
    assert minimum_p(5) > 0.05 > minimum_p(6)


def test_more_than_sixteen_seeds_are_drawn_and_agree_with_all_patterns() -> None:
    values = numbers(0, 18) + 0.4
    sums = np.abs(patterns(18) @ values)
    exact = float((sums >= abs(values.sum()) - 1e-12).mean())

    found = sign_flip(values, seed=1)

    assert not found.exact
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1e5))
    assert sign_flip(values, seed=1) == found


def test_differences_that_are_all_zero_are_no_evidence() -> None:
    assert sign_flip(np.zeros(8)).p == 1.0


def test_ties_count_as_at_least_as_far_whatever_the_rounding() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])

    assert sign_flip(values).p == sign_flip(values[::-1].copy()).p == sign_flip(np.round(values * 10)).p


def test_a_difference_without_a_value_makes_the_test_impossible_and_not_significant() -> None:
    assert sign_flip(np.array([1.0, np.nan, 1.0])).p is None
    assert sign_flip(np.array([np.inf] * 8)).p is None
    assert sign_flip(np.array([])).p is None


# --- margins


def between(low: float, high: float, error: float = 1e-3) -> Interval:
    """An interval whose own p is next to nothing, so that sign flips decide."""
    return Interval((low + high) / 2, low, high, 0.9, "test", error, 50.0, 0)


def test_a_loss_within_the_margin_is_shown_when_test_and_interval_both_say_so() -> None:
    gains = np.array([-0.1, 0.0, 0.1, -0.05, 0.02, 0.03])

    assert non_inferiority(gains, between(-0.2, 0.2), 0.5, 0.05) == MarginTest(2.0**-6, 2.0**-6, True, False)
    assert not non_inferiority(gains, between(-0.6, 0.2), 0.5, 0.05).shown  # the interval reaches beyond
    assert not non_inferiority(gains[:4], between(-0.2, 0.2), 0.5, 0.05).shown  # four seeds: p is 1/16 at best
    assert not non_inferiority(gains, between(-0.2, 0.2, error=1.0), 0.5, 0.05).shown  # prompts vary too much
    assert non_inferiority(gains - 2, between(-2.2, -1.8), 0.5, 0.05) == MarginTest(1.0, 2.0**-6, False, True)


def test_the_margin_test_is_the_one_sided_permutation_test_of_scipy_about_the_margin() -> None:
    gains = numbers(4, 8) - 0.2

    found = non_inferiority(gains, between(-0.5, 0.5), 0.7, 0.05)

    assert found.p == pytest.approx(permuted(gains + 0.7, "greater"), abs=1e-12)


def test_equivalence_takes_the_larger_of_two_one_sided_tests() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    apart = numbers(1, 9) * 0.2 + 0.15
    one_sided = [sign_flip(apart, "greater", -0.4).p, sign_flip(apart, "less", 0.4).p]

    found = equivalence(apart, between(-0.1, 0.35), 0.4, 0.05)

    assert found.p == max(p for p in one_sided if p is not None)
    # The t-test's version agrees about the side that decides and about the size.
    oracle, _, _ = weightstats.DescrStatsW(apart).ttost_mean(-0.4, 0.4)
    assert found.p == pytest.approx(oracle, abs=0.01)
    assert found.shown
    assert not equivalence(apart, between(-0.1, 0.45), 0.4, 0.05).shown
    assert equivalence(apart + 5, between(4.9, 5.4), 0.4, 0.05).refuted


def test_the_t_test_version_of_equivalence_is_that_of_statsmodels() -> None:
    """Sign flips of many seeds are next to nothing, so the p over seeds and prompts decides."""
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    apart = numbers(2, 16) * 0.3 + 0.25
    interval = crossed_interval(Contrast.between(Cells.of(apart[:, None]), Cells.of(np.zeros((16, 1)))), 0, 0.9)
    oracle, lower, upper = weightstats.DescrStatsW(apart).ttost_mean(-0.4, 0.4)

    assert crossed_p(interval, "greater", -0.4) == pytest.approx(lower[1])
    assert crossed_p(interval, "less", 0.4) == pytest.approx(upper[1])
    assert crossed_p(interval) == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
    found = equivalence(apart, interval, 0.4, 0.05)
    assert found.p is not None
    assert found.p >= oracle


def test_an_effect_without_spread_is_certain_or_nothing() -> None:
    none = Interval(0.0, 0.0, 0.0, 0.95, "t", 0.0, 5.0, 0)

    assert (crossed_p(none), crossed_p(replace(none, effect=1.0)), crossed_p(replace(none, error=None))) == (1, 0, None)
    assert stricter(None, 0.1) is None
    assert stricter(0.2, 0.1) == 0.2


# --- multiplicity


@pytest.mark.parametrize("root", range(10))
def test_adjusted_p_values_are_those_of_statsmodels(root: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = list(np.random.default_rng(root).uniform(size=7) ** 3)
    values[3] = values[1]

    assert holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1].tolist())
    assert benjamini_hochberg(values) == pytest.approx(multitest.multipletests(values, method="fdr_bh")[1].tolist())


def test_no_p_values_have_no_adjusted_ones() -> None:
    assert holm([]) == benjamini_hochberg([]) == []


def test_the_smallest_adjusted_p_is_what_holm_gives_when_all_are_smallest() -> None:
    assert holm([2.0**-5] * 3) == [smallest_adjusted(2.0**-5, 3)] * 3
    assert smallest_adjusted(0.5, 3) == 1.0


# --- power


@pytest.mark.parametrize(("freedom", "alpha"), [(4, 0.05), (9, 0.05), (19, 0.01)])
def test_the_power_of_the_t_test_is_that_of_statsmodels(freedom: int, alpha: float) -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    n = freedom + 1

    assert t_power(freedom, 0.9 * math.sqrt(n), alpha) == pytest.approx(
        power.TTestPower().power(0.9, n, alpha, alternative="two-sided"), abs=1e-6
    )
    assert detectable_by_t(freedom, alpha) / math.sqrt(n) == pytest.approx(
        power.TTestPower().solve_power(None, n, alpha, 0.8, alternative="two-sided"), rel=1e-4
    )


@pytest.mark.parametrize(("n", "deviations"), [(3, 3.3), (5, 1.7), (8, 1.16), (10, 1.0)])
def test_paired_seeds_detect_what_published_tables_of_the_t_test_say(n: int, deviations: float) -> None:
    assert detectable_by_t(n - 1, 0.05) / math.sqrt(n) == pytest.approx(deviations, rel=0.02)


@pytest.mark.parametrize("effect", [0.0, 1.0, 1.79, 3.0])
def test_six_seeds_are_significant_only_when_all_have_one_sign(effect: float) -> None:
    """p ≤ 0.05 takes the most extreme of 32 patterns, so the power is Φ(effect)^6 + Φ(−effect)^6."""
    exact = stats.norm.cdf(effect) ** 6 + stats.norm.cdf(-effect) ** 6

    assert sign_flip_power(6, effect, 0.05) == pytest.approx(exact, abs=0.02)


def test_five_seeds_have_no_power_however_large_the_effect() -> None:
    assert sign_flip_power(5, 100.0, 0.05) == 0.0
    assert detectable_by_sign_flip(5, 0.05) is None
    assert minimum_detectable_effect(numbers(0, 5), 0.1, 4, 0.05) is None


def test_the_detectable_effect_of_six_seeds_is_that_of_six_equal_signs() -> None:
    exact = stats.norm.ppf(0.8 ** (1 / 6))

    assert detectable_by_sign_flip(6, 0.05) == pytest.approx(exact, rel=0.02)


def test_the_detectable_effect_is_that_of_the_weaker_of_test_and_interval() -> None:
    differences = numbers(1, 8)
    deviation = differences.std(ddof=1)
    flips = detectable_by_sign_flip(8, 0.05)
    assert flips is not None

    assert minimum_detectable_effect(differences, 0.0, 7, 0.05) == pytest.approx(flips * deviation)
    assert minimum_detectable_effect(differences, 100.0, 7, 0.05) == pytest.approx(100 * detectable_by_t(7, 0.05))


# --- trends and agreement


def test_a_planted_dose_is_monotone_with_its_slope_and_no_dose_is_not() -> None:
    doses = np.array([0.0, 0.25, 0.5, 1.0])
    planted = 3.0 - 2.0 * doses + 0.05 * numbers(0, 6, 4)
    reversed_effect = 3.0 + 2.0 * doses + 0.05 * numbers(0, 6, 4)

    found = dose_response(planted, doses)

    assert found.monotone
    assert found.slope == pytest.approx(-2.0, abs=0.1)
    assert found.slope_test.p == 2.0**-5
    assert found.page_p == pytest.approx(stats.page_trend_test(planted[:, ::-1]).pvalue)
    assert found.slopes == pytest.approx([stats.linregress(doses, row).slope for row in planted])
    assert dose_response(reversed_effect, doses).slope == pytest.approx(2.0, abs=0.1)
    assert not dose_response(np.tile([1.0, 3.0, 2.0, 0.0], (6, 1)), doses).monotone
    assert dose_response(planted[:, :2], doses[:2]).page_p is None


def test_agreement_of_judges_is_kendalls_tau_of_scipy() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 2.5, 2.0, 9.0])
    oracle = stats.kendalltau(first, second)

    found = kendall(first, second)

    assert (found.tau, found.p) == (oracle.statistic, oracle.pvalue)
    assert kendall(first, np.ones(4)).tau is None
    assert kendall(first[:1], second[:1]).arms == 1


# --- effort that never sufficed


def test_an_arm_that_never_gets_there_loses_and_two_that_never_do_tie() -> None:
    treatment, control = np.array([100.0, 200.0, np.inf, np.inf]), np.array([400.0, np.inf, 800.0, np.inf])

    assert censored_differences(treatment, control, "log_ratio").tolist() == [
        pytest.approx(math.log(0.25)), -np.inf, np.inf, 0.0,
    ]  # fmt: skip
    assert censored_differences(treatment, control, "difference").tolist() == [-300.0, -np.inf, np.inf, 0.0]


def test_the_sign_test_is_the_binomial_test_of_scipy() -> None:
    apart = np.array([-1.0, -np.inf, -2.0, -0.5, -3.0, 4.0, -1.0, -2.0, -np.inf])

    assert sign_test(apart).p == pytest.approx(stats.binomtest(1, 9).pvalue)


def test_the_interval_of_a_median_covers_as_the_binomial_says() -> None:
    values = np.arange(1.0, 21.0)
    low, high = median_interval(values, 0.95) or (0.0, 0.0)
    inside = stats.binom.cdf(high - 1, 20, 0.5) - stats.binom.cdf(low - 1, 20, 0.5)
    tighter = stats.binom.cdf(high - 2, 20, 0.5) - stats.binom.cdf(low, 20, 0.5)

    assert inside >= 0.95 > tighter
    assert median_interval(values[:5], 0.95) is None
    assert median_interval(values[:6], 0.95) == (1.0, 6.0)
    assert median_interval(np.array([-np.inf, -2.0, -1.0, -1.0, -1.0, -0.5]), 0.95) == (-np.inf, -0.5)
