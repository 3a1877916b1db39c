"""One endpoint computed: its effect, how sure it is, and what the design could have found.

In: the scores of a run and one entry of the preregistration. Out: an `EndpointResult` without a conclusion: that takes
the p-values of all endpoints (`verdict.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignment.preregistration import EndpointSettings, Preregistration
from alignment.run_scores import NOT_REACHED, Paired, RunScores, paired, widened
from alignment.statistics.bootstrap import NONE, Interval, crossed_intervals, crossed_p
from alignment.statistics.censored import censored_differences, median, median_interval, sign_test
from alignment.statistics.contrast import Cells, Contrast
from alignment.statistics.effects import EffectSizes, effect_sizes, outliers
from alignment.statistics.equivalence import MarginTest, equivalence, non_inferiority, stricter
from alignment.statistics.item_tests import ItemTests, McNemar, item_tests, mcnemar
from alignment.statistics.power import POWER, minimum_detectable_effect
from alignment.statistics.rates import Rate, rate_interval, rule_of_three
from alignment.statistics.sign_flip import sign_flip
from curation.seeding import derive_seed

F64 = npt.NDArray[np.float64]

ONE_SEED = "Two checkpoints only: the interval is over prompts and says nothing about another training run."
FEW_CLUSTERS = (
    10  # fewer clusters than this: a t-interval on so few units is wide, and often a label taken for a cluster
)


@dataclass(frozen=True)
class SeedResult:
    """One seed of a contrast."""

    seed: int
    treatment: float
    control: float
    effect: float
    mcnemar: McNemar | None = None  # and the two below: scores of 0 and 1, every item its own cluster
    treatment_rate: Rate | None = None  # Wilson's interval over the items of this checkpoint
    control_rate: Rate | None = None


@dataclass(frozen=True)
class EndpointResult:
    """Everything known about one endpoint. Effects are treatment − control on `scale`."""

    settings: EndpointSettings
    treatment: str
    control: str
    unit: str = ""
    higher_is_better: bool | None = None
    treatment_mean: float | None = None
    control_mean: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = NONE
    margin_low: float | None = None  # interval of level 1 − 2·alpha, for tests against the margin
    margin_high: float | None = None
    p: float | None = None  # the larger of the two below: both have to say so
    p_flip: float | None = None  # sign flips: other seeds, these prompts
    p_crossed: float | None = None  # other seeds and other prompts
    minimum_p: float = 1.0
    p_t: float | None = None  # paired t-test over seeds, for comparison
    p_adjusted: float | None = None
    adjustment: str = "none"
    margin_test: MarginTest | None = None
    mde: float | None = None  # found with a power of 0.8; for tests against a margin: the least margin
    median: float | None = None
    seeds: tuple[SeedResult, ...] = ()
    outliers: tuple[int, ...] = ()  # seeds
    sizes: EffectSizes | None = None
    item_tests: ItemTests | None = None
    items: int = 0
    clusters: int = 0
    missing_share: float = 0.0
    failed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conclusion: str = "no_data"
    sentence: str = ""

    @property
    def gain(self) -> float | None:
        """The effect with the sign that is good: positive is better; None without a direction or an effect."""
        if self.effect is None or self.higher_is_better is None:
            return None
        return self.effect if self.higher_is_better else -self.effect

    @property
    def gain_bounds(self) -> tuple[float | None, float | None]:
        """The interval of the gain."""
        return (self.low, self.high) if self.higher_is_better else (_negative(self.high), _negative(self.low))


def analyse(
    scores: RunScores, settings: EndpointSettings, plan: Preregistration, safety_endpoints: int = 1
) -> EndpointResult:
    """The result of one endpoint, its conclusion still open.

    Args:
        safety_endpoints: how many endpoints share alpha, for the minimum detectable effect.
    """
    treatment, control = settings.treatment or plan.treatment, settings.control or plan.control
    blank = EndpointResult(
        settings, treatment, control, scores.unit(settings.metric), scores.higher_is_better.get(settings.metric)
    )
    pair = _pair(scores, settings, plan, treatment, control, settings.stage, settings.metric)
    if pair.failed.get(NOT_REACHED):
        return _censored(scores, blank, plan)
    if not pair.seeds or not pair.pairs:
        where = f"`{settings.metric}` at `{settings.stage}`"
        return replace(blank, notes=(f"No scores of {where} that {treatment} and {control} share.",))
    contrast = Contrast.between(pair.treatment, pair.control, settings.scale)
    if settings.minus_stage or settings.minus_metric:
        stage, metric = settings.minus_stage or settings.stage, settings.minus_metric or settings.metric
        other = _pair(scores, settings, plan, treatment, control, stage, metric)
        if other.seeds != pair.seeds:
            return replace(blank, notes=(f"`{metric}` at `{stage}` has seeds {list(other.seeds)}, not the same.",))
        contrast = _difference_of(pair, other, settings)
    return _measured(blank, pair, contrast, plan, safety_endpoints)


def _pair(
    scores: RunScores,
    settings: EndpointSettings,
    plan: Preregistration,
    treatment: str,
    control: str,
    stage: str,
    metric: str,
) -> Paired:
    sides = ((treatment, stage, metric), (control, stage, metric))
    return paired(scores, *sides, plan.seeds, settings.samples, settings.at_least)


def _difference_of(pair: Paired, other: Paired, settings: EndpointSettings) -> Contrast:
    """This contrast less the other one, over the clusters of both."""
    every = sorted({*pair.clusters, *other.clusters})
    first, second = (
        Contrast.between(
            widened(side.treatment, side.clusters, every), widened(side.control, side.clusters, every), settings.scale
        )
        for side in (pair, other)
    )
    return first.minus(second)


def _measured(
    blank: EndpointResult, pair: Paired, contrast: Contrast, plan: Preregistration, safety_endpoints: int
) -> EndpointResult:
    settings = blank.settings
    per_seed = contrast.per_seed()
    root = derive_seed(0, "compare", settings.name)
    wide, narrow = crossed_intervals(contrast, root, (1 - plan.alpha, 1 - 2 * plan.alpha), plan.draws)
    test = sign_flip(per_seed, seed=root)
    alpha = plan.alpha / (safety_endpoints if settings.role == "primary" and plan.safety == "any" else 1)
    single = len(contrast.terms) == 2
    means = pair.treatment.means(), pair.control.means()
    total = pair.pairs + pair.incomplete
    return replace(
        blank,
        treatment_mean=float(means[0].mean()),
        control_mean=float(means[1].mean()),
        effect=wide.effect if math.isfinite(wide.effect) else None,
        low=wide.low,
        high=wide.high,
        level=wide.level,
        method=wide.method,
        margin_low=narrow.low,
        margin_high=narrow.high,
        p=stricter(test.p, crossed_p(wide)),
        p_flip=test.p,
        p_crossed=crossed_p(wide),
        minimum_p=test.minimum_p,
        p_t=_t_test(per_seed),
        margin_test=_margin_test(blank, per_seed, narrow, plan.alpha, root),
        mde=_detectable(settings, per_seed, wide, alpha, plan.alpha),
        median=median(per_seed),
        seeds=_seed_results(pair, means, per_seed, single),
        outliers=tuple(pair.seeds[at] for at in outliers(per_seed)),
        sizes=effect_sizes(per_seed, _cell_means(pair.treatment), _cell_means(pair.control)) if single else None,
        item_tests=_item_tests(pair, root) if single and len(pair.clusters) > 1 else None,
        items=pair.items,
        clusters=len(pair.clusters),
        missing_share=pair.incomplete / total if total else 0.0,
        failed=pair.failed,
        notes=(*_notes(pair, plan), *_none_at_all(pair, blank)),
    )


def _detectable(
    settings: EndpointSettings, per_seed: F64, wide: Interval, alpha: float, of_margins: float
) -> float | None:
    """The least effect that would be found, or for a test against a margin the least margin that would be kept.

    A one-sided test at alpha has the power of a two-sided one at 2·alpha. Equivalence takes both sides: a power of 0.9
    each leaves at least 0.8 for both (Bonferroni).
    """
    if settings.test not in ("non_inferiority", "equivalence"):
        return minimum_detectable_effect(per_seed, wide.error, wide.freedom, alpha)
    power = POWER if settings.test == "non_inferiority" else (1 + POWER) / 2
    return minimum_detectable_effect(per_seed, wide.error, wide.freedom, 2 * of_margins, power)


def _margin_test(blank: EndpointResult, per_seed: F64, narrow: Interval, alpha: float, seed: int) -> MarginTest | None:
    settings = blank.settings
    if settings.margin is None:
        return None
    if settings.test == "equivalence":
        return equivalence(per_seed, narrow, settings.margin, alpha, seed)
    if blank.higher_is_better is None:
        return None
    if blank.higher_is_better:
        return non_inferiority(per_seed, narrow, settings.margin, alpha, seed)
    mirrored = replace(narrow, effect=-narrow.effect, low=_negative(narrow.high), high=_negative(narrow.low))
    return non_inferiority(-per_seed, mirrored, settings.margin, alpha, seed)


def _censored(scores: RunScores, blank: EndpointResult, plan: Preregistration) -> EndpointResult:
    """Effort to reach a level, where some seed never reached it: medians and the sign test."""
    settings = blank.settings
    arms = [(arm, settings.stage, settings.metric) for arm in (blank.treatment, blank.control)]
    shared = set(scores.seeds(*arms[0])) & set(scores.seeds(*arms[1]))
    seeds = [seed for seed in plan.seeds if seed in shared]
    efforts = [np.array([_effort(scores, arm, seed) for seed in seeds]) for arm in arms]
    if np.isnan(efforts).any():
        return replace(blank, notes=(f"`{settings.metric}` has more than one item, or failed for another reason.",))
    apart = censored_differences(efforts[0], efforts[1], settings.scale)
    test, bounds = sign_test(apart), median_interval(apart, 1 - plan.alpha)
    middle = median(apart)
    never = [int(np.isinf(effort).sum()) for effort in efforts]
    note = (
        f"The level was never reached in {never[0]} of {len(seeds)} seeds by {blank.treatment} and in {never[1]} by "
        f"{blank.control}: medians, and a test of signs."
    )
    return replace(
        blank,
        treatment_mean=_finite(median(efforts[0])),
        control_mean=_finite(median(efforts[1])),
        effect=middle,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        level=1 - plan.alpha,
        method="order statistics of the median" if bounds else NONE,
        p=test.p,
        p_flip=test.p,
        minimum_p=test.minimum_p,
        median=middle,
        seeds=tuple(
            SeedResult(seed, float(mine), float(theirs), float(effect))
            for seed, mine, theirs, effect in zip(seeds, *efforts, apart, strict=True)
        ),
        items=1,
        clusters=1,
        failed={NOT_REACHED: sum(never)},
        notes=(note, *_missing_seeds(seeds, plan)),
    )


def _effort(scores: RunScores, arm: tuple[str, str, str], seed: int) -> float:
    """The one value of a model: +inf when the level was never reached, NaN when it is something else."""
    column = scores.column((arm[0], seed, arm[1]), arm[2])
    if column is None or len(column.value) != 1:
        return math.nan
    if math.isnan(column.value[0]):
        return math.inf if column.failed.get(NOT_REACHED) else math.nan
    return float(column.value[0])


def _t_test(per_seed: F64) -> float | None:
    """Two-sided p of the paired t-test over seeds, None where seeds do not differ."""
    n = len(per_seed)
    if n < 2 or not np.isfinite(per_seed).all() or np.ptp(per_seed) == 0:
        return None
    # By hand: SciPy warns where differences are nearly alike, and nothing is to be done about it here.
    distance = abs(float(per_seed.mean())) / (float(per_seed.std(ddof=1)) / math.sqrt(n))
    return 2 * float(stats.t.sf(distance, n - 1))


def _seed_results(pair: Paired, means: tuple[F64, F64], per_seed: F64, single: bool) -> tuple[SeedResult, ...]:
    first, second = _cell_means(pair.treatment), _cell_means(pair.control)
    known = np.concatenate([first[~np.isnan(first)], second[~np.isnan(second)]])
    binary = single and len(pair.clusters) == pair.items > 1 and bool(np.isin(known, (0.0, 1.0)).all())
    out = []
    for row, seed in enumerate(pair.seeds):
        found = SeedResult(seed, float(means[0][row]), float(means[1][row]), float(per_seed[row]))
        if binary:
            test = mcnemar(np.nan_to_num(first[row]), np.nan_to_num(second[row]))
            found = replace(found, mcnemar=test, treatment_rate=_rate(first[row]), control_rate=_rate(second[row]))
        out.append(found)
    return tuple(out)


def _rate(scores: F64) -> Rate:
    known = scores[~np.isnan(scores)]
    return rate_interval(int(known.sum()), len(known))


def _none_at_all(pair: Paired, blank: EndpointResult) -> list[str]:
    """What zero cases in all items and seeds of an arm allow: not a rate of zero."""
    notes = []
    for arm, cells in ((blank.treatment, pair.treatment), (blank.control, pair.control)):
        if not cells.total.any() and not cells.squares.any():
            items = int((cells.weight.sum(axis=0) > 0).sum())
            most = rule_of_three(items)
            notes.append(
                f"{arm}: all scores are 0. Of {items:,} independent items that allows {most:.2%} to be above 0."
            )
    return notes


def _item_tests(pair: Paired, seed: int) -> ItemTests:
    """Clusters, each averaged over the seeds."""
    with np.errstate(invalid="ignore"):
        first, second = (side.total.sum(axis=0) / side.weight.sum(axis=0) for side in (pair.treatment, pair.control))
    return item_tests(first, second, seed)


def _cell_means(cells: Cells) -> F64:
    """Mean of each (seed, cluster), NaN where it has no score."""
    with np.errstate(invalid="ignore"):
        means: F64 = cells.total / cells.weight
    return means


def _notes(pair: Paired, plan: Preregistration) -> tuple[str, ...]:
    notes = _missing_seeds(pair.seeds, plan)
    if len(pair.seeds) == 1:
        notes.append(ONE_SEED)
    if 1 < len(pair.clusters) < FEW_CLUSTERS and pair.items > 2 * len(pair.clusters):
        notes.append(f"{pair.items} items in only {len(pair.clusters)} clusters: the interval is over clusters.")
    if pair.incomplete:
        why = ", ".join(f"{code} {count}" for code, count in sorted(pair.failed.items())) or "items of one arm only"
        notes.append(f"{pair.incomplete:,} items of a seed lack a score in an arm and are left out of both ({why}).")
    return tuple(notes)


def _missing_seeds(seeds: Sequence[int], plan: Preregistration) -> list[str]:
    absent = [seed for seed in plan.seeds if seed not in seeds]
    return [f"Registered seeds without scores in both arms: {', '.join(map(str, absent))}."] if absent else []


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that are not finite become None."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
