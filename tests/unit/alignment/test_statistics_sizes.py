"""Effect sizes, rates and tests over items, against SciPy, statsmodels or arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from alignment.statistics.clusters import clustered_interval
from alignment.statistics.effects import cliffs_delta, d_z, effect_sizes, odds_ratio, outliers
from alignment.statistics.item_tests import McNemar, item_tests, mcnemar
from alignment.statistics.rates import Labelled, rate_interval, rogan_gladen, rule_of_three
from curation.errors import DataContractError


def numbers(root: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(root).normal(size=shape)


# --- sizes


def test_cliffs_delta_is_that_of_the_mann_whitney_statistic() -> None:
    first, second = np.round(numbers(0, 70), 1), np.round(numbers(1, 50) + 0.3, 1)  # with ties
    u = stats.mannwhitneyu(first, second).statistic

    assert cliffs_delta(first, second) == pytest.approx(2 * u / (70 * 50) - 1)


def test_the_odds_ratio_is_that_of_statsmodels_and_an_empty_cell_does_not_make_it_infinite() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    first, second = np.repeat([1.0, 0.0], [30, 20]), np.repeat([1.0, 0.0], [10, 40])

    assert odds_ratio(first, second) == pytest.approx(tables.Table2x2([[30, 20], [10, 40]]).oddsratio)
    assert odds_ratio(np.ones(4), second) == pytest.approx((4.5 / 0.5) / (10.5 / 40.5))


def test_d_z_is_the_t_statistic_over_the_root_of_n() -> None:
    values = numbers(2, 9) + 1

    assert d_z(values) == pytest.approx(stats.ttest_1samp(values, 0).statistic / 3)
    assert d_z(np.ones(5)) is None
    assert d_z(np.ones(1)) is None


def test_sizes_that_do_not_apply_are_absent() -> None:
    graded = effect_sizes(np.array([0.1, 0.3]), np.array([0.2, 0.6, np.nan]), np.array([0.1, 0.1, 0.1]))
    binary = effect_sizes(np.array([0.5]), np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    negative = effect_sizes(np.array([0.5, 0.1]), np.array([-1.0, 0.5]), np.array([-2.0, 1.0]))

    assert (graded.risk_difference, graded.odds_ratio) == (None, None)
    assert graded.percent_change == pytest.approx(300)
    assert graded.log_ratio == pytest.approx(math.log(4))
    assert (binary.d_z, binary.risk_difference, binary.odds_ratio) == (None, 0.5, (2.5 / 0.5) / (1.5 / 1.5))
    assert (negative.percent_change, negative.log_ratio) == (None, None)


def test_an_outlying_seed_is_named_and_ordinary_spread_is_not() -> None:
    assert outliers(np.array([1.0, 1.1, 0.9, 1.05, 9.0, 0.95])) == [4]
    assert outliers(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == []
    assert outliers(np.array([1.0, 1.0, 50.0])) == []


# --- rates


@pytest.mark.parametrize(("cases", "n"), [(0, 30), (3, 30), (30, 30), (141, 173)])
def test_intervals_of_a_rate_are_those_of_statsmodels(cases: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for method, name in (("wilson", "wilson"), ("exact", "beta")):
        low, high = proportion.proportion_confint(cases, n, 0.05, name)
        found = rate_interval(cases, n, method=method)  # type: ignore[arg-type]

        assert (found.rate, found.low, found.high) == pytest.approx((cases / n, low, high), abs=1e-9)


def test_zero_cases_allow_about_three_over_n() -> None:
    assert rule_of_three(1000) == pytest.approx(3 / 1000, rel=0.01)
    # The one-sided Clopper–Pearson bound.
    assert rule_of_three(40) == pytest.approx(stats.beta.ppf(0.95, 1, 40))


def test_a_rate_is_corrected_back_to_the_truth_that_made_it() -> None:
    judge = Labelled(true_positive=80, false_negative=20, true_negative=180, false_positive=20)
    reported = 0.3 * 0.8 + 0.7 * 0.1

    found = rogan_gladen(reported, 0.0, judge)

    assert found.rate == pytest.approx(0.3)
    assert found.low < 0.3 < found.high


def test_corrected_intervals_cover_the_true_rate_about_as_often_as_they_say() -> None:
    g = np.random.default_rng(0)
    truth, sensitivity, specificity, n, labelled = 0.2, 0.75, 0.92, 500, 150
    covered, replays = 0, 1000
    for _ in range(replays):
        hits, rejections = g.binomial(labelled, sensitivity), g.binomial(labelled, specificity)
        judge = Labelled(hits, labelled - hits, rejections, labelled - rejections)
        reported = g.binomial(n, truth * sensitivity + (1 - truth) * (1 - specificity)) / n
        found = rogan_gladen(reported, math.sqrt(reported * (1 - reported) / n), judge)
        covered += found.low <= truth <= found.high

    assert stats.binom.ppf(1e-4, replays, 0.94) <= covered <= stats.binom.ppf(1 - 1e-4, replays, 0.97)


def test_a_judge_no_better_than_chance_corrects_nothing() -> None:
    with pytest.raises(DataContractError, match="cannot correct a rate"):
        rogan_gladen(0.3, 0.01, Labelled(50, 50, 50, 50))
    with pytest.raises(DataContractError, match="0 negatives"):
        rogan_gladen(0.3, 0.01, Labelled(50, 50, 0, 0))


# --- items


def test_clustered_errors_are_those_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    groups = np.repeat(np.arange(25), np.arange(1, 26) % 5 + 1)
    values = numbers(0, 25)[groups] + numbers(1, len(groups))
    names = [f"c{group}" for group in groups]
    fit = api.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )

    found = clustered_interval(values, names, np.ones(len(values)))

    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(fit.bse[0] * math.sqrt(25 / 24))
    assert found.clusters == 25


def test_items_that_are_their_own_clusters_have_the_ordinary_error() -> None:
    values = numbers(0, 40)
    found = clustered_interval(values, [str(i) for i in range(40)], np.ones(40))
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))

    assert (found.standard_error, found.low, found.high) == pytest.approx((stats.sem(values), low, high))


def test_weights_are_shares_in_the_mean() -> None:
    found = clustered_interval(np.array([1.0, 4.0]), ["a", "b"], np.array([3.0, 1.0]))

    assert found.mean == pytest.approx(1.75)


def test_no_items_have_no_mean_and_one_cluster_no_error() -> None:
    assert clustered_interval(np.array([]), [], np.array([])).mean is None
    alone = clustered_interval(np.array([1.0, 3.0]), ["a", "a"], np.ones(2))
    assert (alone.mean, alone.standard_error, alone.low) == (2.0, None, None)


def test_mcnemar_is_that_of_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 9, 2, 30])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 9, 2, 30])

    assert mcnemar(first, second) == McNemar(9, 2, pytest.approx(tables.mcnemar([[20, 9], [2, 30]], exact=True).pvalue))
    assert mcnemar(first, first).p == 1.0


def test_item_tests_apply_what_fits_the_scores() -> None:
    first, second = numbers(0, 60), numbers(1, 60) + 0.4
    first[3] = np.nan
    known = ~np.isnan(first)
    graded = item_tests(first, second)
    binary = item_tests((first > 0).astype(float), (second > 0).astype(float))

    assert graded.items == 59
    assert graded.mcnemar is None
    assert graded.wilcoxon_p == pytest.approx(stats.wilcoxon(first[known], second[known], zero_method="pratt").pvalue)
    oracle = stats.permutation_test(
        (first[known] - second[known],), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9_999, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert graded.permutation_p == pytest.approx(oracle.pvalue, abs=0.01)
    assert binary.mcnemar is not None


def test_items_that_do_not_differ_have_no_rank_test() -> None:
    same = item_tests(np.array([0.5, 0.7]), np.array([0.5, 0.7]))

    assert (same.wilcoxon_p, same.permutation_p) == (None, 1.0)
    assert item_tests(np.array([np.nan]), np.array([1.0])).items == 0
