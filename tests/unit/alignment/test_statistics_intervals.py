"""Intervals over seeds and prompts, against analysis of variance, SciPy's bootstrap and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alignment.statistics import bootstrap
from alignment.statistics.bootstrap import (
    BCA,
    EXPANDED,
    NONE,
    T,
    crossed_draws,
    crossed_interval,
    crossed_intervals,
    crossed_spread,
    prompt_interval,
)
from alignment.statistics.contrast import SCALES, Cells, Contrast, Scale

GENERATOR = np.random.default_rng


def crossed(root: int, seeds: int, prompts: int, of_seed: float, of_prompt: float, noise: float) -> Contrast:
    """A difference of zero on average, with known deviations of what does not cancel."""
    g = GENERATOR(root)
    shape = (seeds, prompts)
    apart = of_seed * g.normal(size=(seeds, 1)) + of_prompt * g.normal(size=(1, prompts)) + noise * g.normal(size=shape)
    base = 5 * g.normal(size=(1, prompts)) + g.normal(size=shape)
    return Contrast.between(Cells.of(base + apart), Cells.of(base))


def positive(root: int, scale: Scale) -> Contrast:
    """Two arms of scores in (0, 1), for scales that need them."""
    g = GENERATOR(root)
    return Contrast.between(Cells.of(g.beta(2, 5, (4, 30))), Cells.of(g.beta(2, 4, (4, 30))), scale)


def test_the_error_of_one_score_a_seed_is_that_of_a_mean() -> None:
    values = GENERATOR(0).normal(size=(7, 1))

    found = crossed_spread(values)

    assert found is not None
    assert found.error == pytest.approx(stats.sem(values[:, 0]), rel=1e-12)
    assert found.freedom == 6


def test_mean_squares_of_the_crossed_table_are_those_of_statsmodels() -> None:
    formula = pytest.importorskip("statsmodels.formula.api")
    anova = pytest.importorskip("statsmodels.stats.anova")
    pandas = pytest.importorskip("pandas")
    g = GENERATOR(3)
    table = 2 * g.normal(size=(5, 1)) + 3 * g.normal(size=(1, 12)) + g.normal(size=(5, 12))
    rows, columns = np.indices(table.shape)
    frame = pandas.DataFrame({"y": table.ravel(), "s": rows.ravel(), "p": columns.ravel()})
    squares = anova.anova_lm(formula.ols("y ~ C(s) + C(p)", frame).fit())
    seed, prompt, rest = (squares["sum_sq"] / squares["df"]).tolist()
    expected = (seed + prompt - rest) / table.size

    found = crossed_spread(table)

    assert found is not None
    assert found.error == pytest.approx(expected**0.5, rel=1e-9)
    satterthwaite = (seed + prompt - rest) ** 2 / (seed**2 / 4 + prompt**2 / 11 + rest**2 / 44)
    assert found.freedom == pytest.approx(satterthwaite, rel=1e-9)


def test_a_single_cell_has_no_error_and_no_interval() -> None:
    alone = Contrast.between(Cells.of(np.array([[1.0]])), Cells.of(np.array([[0.5]])))

    found = crossed_interval(alone, 0)

    assert (found.effect, found.low, found.high, found.method) == (0.5, None, None, NONE)


@pytest.mark.parametrize("scale", list(SCALES))
def test_the_linearised_table_has_the_effects_as_row_means_and_the_derivative_as_entries(scale: Scale) -> None:
    contrast = positive(1, scale)
    table = contrast.linearised()
    step, column = 1e-6, 17
    weights = np.ones((1, 30))
    weights[0, column] += step

    moved = contrast.resampled(weights)[0]

    assert table.mean(axis=1) == pytest.approx(contrast.per_seed(), abs=1e-12)
    slope = (moved - contrast.per_seed()) / step
    assert (table[:, column] - contrast.per_seed()) / 30 == pytest.approx(slope, rel=1e-4)


def test_effects_of_every_scale_are_those_computed_by_hand() -> None:
    first, second = np.array([[0.2, 0.4, 0.9]]), np.array([[0.1, 0.2, 0.6]])
    cells = Cells.of(first), Cells.of(second)

    found = {scale: Contrast.between(*cells, scale).per_seed()[0] for scale in SCALES}

    odds = (0.5 / 0.5) / (0.3 / 0.7)
    assert found == pytest.approx(
        {
            "difference": 0.2,
            "log_ratio": np.log(0.5 / 0.3),
            "log_odds_ratio": np.log(odds),
            "log_sd_ratio": np.log(first.std() / second.std()),
        }
    )


def test_a_difference_of_differences_is_the_change_of_the_gap() -> None:
    before = Contrast.between(Cells.of(np.array([[1.0, 2.0]])), Cells.of(np.array([[0.0, 0.0]])))
    after = Contrast.between(Cells.of(np.array([[5.0, 7.0]])), Cells.of(np.array([[1.0, 1.0]])))

    assert after.minus(before).per_seed().tolist() == [5.0 - 1.5]


def test_missing_scores_are_left_out_of_the_mean_and_not_taken_for_zero() -> None:
    values = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 2.0]])

    assert Cells.of(values).means().tolist() == [2.0, 2.0]


def test_draws_spread_as_the_theory_of_crossed_resampling_says() -> None:
    """Owen 2007: each main effect counts once, the rest three times, up to (n − 1)/n."""
    contrast = crossed(5, 8, 60, 1.0, 2.0, 3.0)
    table = contrast.linearised()
    rows, columns = table.shape
    of_rows, of_columns = table.mean(axis=1).var(), table.mean(axis=0).var()
    centred = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    expected = of_rows / rows + of_columns / columns + (centred**2).mean() / (rows * columns)

    found = crossed_draws(contrast, 0, 20_000).var()

    assert found == pytest.approx(expected, rel=0.05)


def test_the_bca_interval_over_prompts_is_that_of_scipy() -> None:
    g = GENERATOR(2)
    first, second = g.lognormal(size=120), g.lognormal(size=120)
    found = prompt_interval(Contrast.between(Cells.of(first[None]), Cells.of(second[None])), 0, 0.95, 20_000)
    oracle = stats.bootstrap(
        (first - second,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval

    assert found.method == BCA
    width = oracle.high - oracle.low
    assert found.low == pytest.approx(oracle.low, abs=0.03 * width)
    assert found.high == pytest.approx(oracle.high, abs=0.03 * width)


def test_three_seeds_get_the_t_interval_of_scipy() -> None:
    values = np.array([[0.3], [0.5], [0.1]])
    oracle = stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95)

    found = crossed_interval(Contrast.between(Cells.of(values), Cells.of(np.zeros((3, 1)))), 0)

    assert (found.method, found.draws) == (T, 0)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-9)


# Deviations of seed, prompt and noise: seeds dominate, prompts dominate, everything, noise alone.
DESIGNS = [(6, 1.0, 0.0, 1.0), (6, 0.2, 3.0, 5.0), (12, 1.0, 3.0, 5.0), (3, 1.0, 0.5, 2.0), (6, 0.0, 0.0, 1.0)]


@pytest.mark.parametrize(("seeds", "of_seed", "of_prompt", "noise"), DESIGNS)
def test_intervals_over_seeds_and_prompts_cover_the_truth_about_as_often_as_they_say(
    seeds: int, of_seed: float, of_prompt: float, noise: float
) -> None:
    replays = 300
    covered = 0
    for root in range(replays):
        found = crossed_interval(crossed(root, seeds, 50, of_seed, of_prompt, noise), root, 0.95, 1_000)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high

    assert covered >= stats.binom.ppf(0.001, replays, 0.95)
    # Wider than nominal where nothing but noise varies: a negative variance component counts as none.
    assert covered <= stats.binom.ppf(0.999, replays, 0.95 if of_seed == 1.0 else 0.985)


def test_a_plain_percentile_interval_of_six_seeds_covers_too_rarely() -> None:
    """Why the interval is expanded."""
    covered = 0
    for root in range(300):
        low, high = np.percentile(crossed_draws(crossed(root, 6, 50, 1.0, 0.0, 1.0), root, 1_000), [2.5, 97.5])
        covered += low <= 0 <= high

    assert covered <= stats.binom.ppf(0.01, 300, 0.95)


@pytest.mark.parametrize("scale", ["log_ratio", "log_odds_ratio", "log_sd_ratio"])
def test_intervals_of_logs_cover_the_truth_too(scale: Scale) -> None:
    covered = 0
    for root in range(300):
        g = GENERATOR(root)
        arms = [Cells.of(g.beta(2, 5, (6, 60)) ** (1 + 0.1 * g.random((6, 1)))) for _ in range(2)]
        found = crossed_interval(Contrast.between(*arms, scale), root, 0.95, 1_000)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high

    assert covered >= stats.binom.ppf(0.001, 300, 0.95)


def test_the_same_seed_gives_the_same_interval_whatever_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    contrast = crossed(1, 6, 40, 1, 1, 1)
    first = crossed_interval(contrast, 9, 0.95, 2_000)
    monkeypatch.setattr(bootstrap, "BLOCK", 40 * 7)

    assert crossed_interval(contrast, 9, 0.95, 2_000) == first
    assert crossed_interval(contrast, 10, 0.95, 2_000) != first
    assert (first.method, first.draws) == (EXPANDED, 2_000)


def test_a_wider_level_gives_a_wider_interval_from_the_same_draws() -> None:
    wide, narrow = crossed_intervals(crossed(1, 6, 40, 1, 1, 1), 0, (0.95, 0.90))

    assert wide.low is not None
    assert narrow.low is not None
    assert wide.high is not None
    assert narrow.high is not None
    assert wide.low < narrow.low < narrow.effect < narrow.high < wide.high


def test_identical_arms_have_an_interval_of_no_width() -> None:
    same = Cells.of(GENERATOR(0).normal(size=(6, 20)))

    found = crossed_interval(Contrast.between(same, same), 0)

    assert (found.effect, found.low, found.high) == (0.0, 0.0, 0.0)


def test_one_seed_is_resampled_over_prompts_only() -> None:
    found = crossed_interval(crossed(0, 1, 50, 0, 1, 1), 0)

    assert found.method == BCA


def test_a_log_of_zero_has_no_interval_rather_than_a_wrong_one() -> None:
    treatment = Cells.of(np.zeros((6, 10)))
    found = crossed_interval(Contrast.between(treatment, Cells.of(np.ones((6, 10))), "log_ratio"), 0)

    assert (found.low, found.high, found.method) == (None, None, NONE)


def test_clusters_of_any_number_fit_into_memory() -> None:
    assert sum(bootstrap._blocks(10_000, 100_000)) == 10_000
    assert max(bootstrap._blocks(10_000, 100_000)) * 100_000 <= bootstrap.BLOCK
    assert max(bootstrap._blocks(10, 10**9)) == 1
