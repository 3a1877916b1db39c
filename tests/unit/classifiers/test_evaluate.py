"""Metrics against hand-computed values."""

import numpy as np
import pytest

from classifiers.evaluate import (
    auroc,
    average_precision,
    interval,
    operating_point,
    paired_difference,
    point_at_error,
    point_at_recall,
    rate,
    recall_at_fpr,
    reliability,
    resampled,
    with_interval,
)

SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
TRUTH = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])


def test_auroc_counts_the_pairs_in_order_and_halves_ties() -> None:
    assert auroc(SCORE, TRUTH) == pytest.approx(7 / 9)
    assert auroc(np.ones(4), np.array([1.0, 0, 1, 0])) == 0.5
    assert np.isnan(auroc(SCORE, np.ones(6)))


def test_average_precision_is_the_mean_precision_at_each_positive() -> None:
    assert average_precision(SCORE, TRUTH) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_recall_at_a_false_positive_rate() -> None:
    assert recall_at_fpr(SCORE, TRUTH, 0.34) == pytest.approx(1.0)
    assert recall_at_fpr(SCORE, TRUTH, 0.0) == pytest.approx(1 / 3)


def test_intervals_hold_the_value_and_repeat_with_the_seed() -> None:
    first, second = (with_interval(auroc, SCORE, TRUTH, seed=3) for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high
    assert rate(np.array([True] * 5 + [False] * 5)).plain() == {"value": 0.5, "low": 0.2366, "high": 0.7634, "rows": 10}


def test_nothing_to_measure_gives_no_number() -> None:
    empty = with_interval(auroc, np.zeros(0), np.zeros(0))
    assert empty.rows == 0
    assert np.isnan([empty.value, empty.low, empty.high]).all()


def test_two_scores_of_the_same_rows_are_resampled_alike() -> None:
    worse = np.array([0.1, 0.8, 0.7, 0.6, 0.5, 0.4])
    found = paired_difference(auroc, SCORE, worse, TRUTH, seed=3)
    # The same resamples: subtracting them is the definition of the interval, and a score against itself never differs.
    draws = resampled(auroc, SCORE, TRUTH, 3) - resampled(auroc, worse, TRUTH, 3)
    assert found == interval(7 / 9 - 4 / 9, draws, 6)
    assert paired_difference(auroc, SCORE, SCORE, TRUTH).plain() == {"value": 0.0, "low": 0.0, "high": 0.0, "rows": 6}


def test_a_threshold_calls_what_reaches_it() -> None:
    point = operating_point(SCORE, TRUTH, 0.6)
    assert (point.recall.value, point.error.value) == (1.0, 0.3333)
    assert point.recall == rate(np.array([True, True, True]))


@pytest.mark.parametrize(
    ("recall", "threshold", "error"), [(1.0, 0.6, 0.3333), (2 / 3, 0.7, 0.3333), (0.34, 0.7, 0.3333), (0.3, 0.9, 0.0)]
)
def test_the_highest_threshold_that_keeps_a_recall(recall: float, threshold: float, error: float) -> None:
    point = point_at_recall(SCORE, TRUTH, recall)
    assert (point.threshold, point.error.value) == (threshold, error)
    assert point.recall.value >= recall


@pytest.mark.parametrize(
    ("error", "threshold", "recall"), [(0.0, 0.9, 0.3333), (1 / 3, 0.6, 1.0), (0.5, 0.6, 1.0), (1.0, 0.4, 1.0)]
)
def test_the_lowest_threshold_that_keeps_an_error(error: float, threshold: float, recall: float) -> None:
    point = point_at_error(SCORE, TRUTH, error)
    assert (point.threshold, point.recall.value) == (threshold, recall)
    assert point.error.value <= error + 1e-4


def test_a_score_without_grades_has_no_point_between_nothing_and_its_one_threshold() -> None:
    hit, truth = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    assert point_at_recall(hit, truth, 0.9).error.value == 1.0
    assert point_at_error(hit, truth, 0.4).recall.value == 0.0


def test_reliability_sets_what_was_stated_against_what_came_true() -> None:
    found = reliability(np.array([0.02, 0.08, 0.55, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 1.0]), bins=10)
    assert [(b.low, b.high, b.observed.value, b.observed.rows) for b in found] == [
        (0.0, 0.1, 0.5, 2),
        (0.5, 0.6, 1.0, 1),
        (0.9, 1.0, 1.0, 2),
    ]
    assert [b.stated for b in found] == pytest.approx([0.05, 0.55, 0.975])
