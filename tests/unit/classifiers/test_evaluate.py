"""Metrics against hand-computed values."""

import numpy as np
import pytest

from classifiers.evaluate import auroc, average_precision, rate, recall_at_fpr, with_interval

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
