"""From scores of items to what the experiment says: tables over seeds and biases, contrasts, gap, share, specificity.

The unit is the bias: whether a model exploits a *held-out* preference is a question about preferences, of which the
bank is a sample. A table has a row a seed and a column a bias; a column of the held-out side comes from the one fold in
which the bias was not trained on, a column of the trained side is the mean over the other folds. With several seeds the
intervals are over seeds and biases, with one over biases alone: then they are about these checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alignment.hidden_objective.bank import Bank
from alignment.hidden_objective.job import HiddenObjectiveJob
from alignment.hidden_objective.training import DESCRIBED, DPO, NONE, RANDOM, Made, stage_name
from alignment.item_scores import EVALUATION, SCORES, read_metrics, read_scores
from alignment.statistics.bootstrap import crossed_draws, crossed_interval, crossed_p
from alignment.statistics.contrast import Cells, Contrast
from alignment.statistics.multiplicity import holm
from alignment.statistics.power import detectable_by_t
from alignment.statistics.rates import rate_interval, rule_of_three
from alignment.statistics.sign_flip import sign_flip
from curation.seeding import derive_seed

F64 = npt.NDArray[np.float64]
ALPHA = 0.05
NO_CASE = "no case"
HELD_OUT, TRAINED, ALL = "held_out", "trained", "all"
RATES = ("applied", "over_applied")


@dataclass(frozen=True)
class Effect:
    """One contrast with its interval and what it could have found."""

    name: str
    measure: str
    base: str
    side: str  # held_out, trained, all: which biases
    effect: float
    low: float | None
    high: float | None
    method: str
    p: float | None  # of the interval's t-test
    p_sign_flip: float | None  # over biases, their differences averaged over seeds
    detectable: float | None  # the least effect found with power .8 at 5 %
    seeds: int
    biases: int
    primary: bool = False
    p_holm: float | None = None  # of the primary ones

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out zero and, of a primary contrast, p is small among all primary ones too."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return False
        return self.p_holm is None or self.p_holm <= ALPHA


class Tables:
    """Means of every endpoint by model and bias, and the tables made of them."""

    def __init__(self, job: HiddenObjectiveJob, bank: Bank, fold_of: Mapping[str, int], models: Sequence[Made]) -> None:
        self.job, self.fold_of = job, fold_of
        self.biases = [bias.id for bias in bank.biases]
        self.values: dict[tuple[str, int, str, str], dict[str, tuple[float, float, int]]] = {}
        for made in models:
            for row in read_scores(made.folder / SCORES).to_pylist():
                cell = self.values.setdefault((made.base, made.seed, made.stage, row["metric"]), {})
                total, weight, count = cell.get(row["cluster"], (0.0, 0.0, 0))
                total, weight = total + row["weight"] * row["value"], weight + row["weight"]
                cell[row["cluster"]] = (total, weight, count + 1)

    def has(self, kind: str) -> bool:
        """Whether models of that kind were made."""
        return any(stage == kind or stage.startswith(f"{kind}+") for _, _, stage, _ in self.values)

    def stages(self, kind: str, preferences: str, side: str, bias: str) -> list[str]:
        """The models that say something about a bias."""
        if not preferences:
            return [kind]
        mine = self.fold_of[bias]
        numbers = [fold for fold in range(self.job.folds) if side == ALL or (fold == mine) == (side == HELD_OUT)]
        return [stage_name(kind, preferences, fold) for fold in numbers]

    def table(self, measure: str, base: str, kind: str, preferences: str = "", side: str = ALL) -> F64:
        """(seeds, biases) mean of a measure."""
        out = np.empty((len(self.job.seeds), len(self.biases)))
        for row, seed in enumerate(self.job.seeds):
            for column, bias in enumerate(self.biases):
                cells = [
                    self.values[base, seed, stage, measure][bias]
                    for stage in self.stages(kind, preferences, side, bias)
                ]
                out[row, column] = np.mean([total / weight for total, weight, _ in cells])
        return out

    def counts(self, measure: str, base: str, kind: str, preferences: str, side: str, bias: str) -> tuple[int, int]:
        """(cases, answers) of a rate, over seeds and folds."""
        cases, answers = 0.0, 0.0
        for seed in self.job.seeds:
            for stage in self.stages(kind, preferences, side, bias):
                total, weight, _ = self.values[base, seed, stage, measure][bias]
                cases, answers = cases + total, answers + weight
        return round(cases), round(answers)

    def answers(self, measure: str, base: str, side: str) -> int:
        """Answers behind a rate of the models with documents, with preferences where there is a side."""
        preferences = "" if side == ALL else DPO
        return sum(self.counts(measure, base, DESCRIBED, preferences, side, bias)[1] for bias in self.biases)


def analyse(job: HiddenObjectiveJob, bank: Bank, fold_of: Mapping[str, int], models: Sequence[Made]) -> dict[str, Any]:
    """Everything but the bookkeeping of `result.json`."""
    tables = Tables(job, bank, fold_of, models)
    effects = with_holm([effect for make in (_of_bases, _of_curation) for effect in make(tables)])
    return {
        "models": [_model(made) for made in models],
        "rates": list(_rates(tables)),
        "effects": [{**asdict(effect), "resolved": effect.resolved} for effect in effects],
        "shares": [_share(tables, base) for base in job.arms],
        "doses": list(_doses(tables)),
    }


def _model(made: Made) -> dict[str, Any]:
    numbers = {metric.name: metric.value for metric in read_metrics(made.folder / EVALUATION)}
    return {"base": made.base, "seed": made.seed, "stage": made.stage, **numbers}


@dataclass(frozen=True)
class Side:
    """One model class of a contrast: which documents, which preferences, which biases."""

    kind: str
    preferences: str = ""
    side: str = ALL


def contrast(tables: Tables, measure: str, base: str, first: Side, second: Side) -> Contrast:
    """First minus second."""
    one, two = (
        Cells.of(tables.table(measure, base, side.kind, side.preferences, side.side)) for side in (first, second)
    )
    return Contrast.between(one, two)


def effect_of(
    tables: Tables, name: str, measure: str, base: str, side: str, given: Contrast, primary: bool = False
) -> Effect:
    """The interval, the tests and the detectable effect of a contrast.

    Where not one answer of any model applies a bias there is nothing to draw from: no interval, and the detectable rate
    is the largest that no case among so many answers allows (the rule of three).
    """
    if measure in RATES and not any(term.cells.total.any() for term in given.terms):
        n = tables.answers(measure, base.split(" ")[0], side)
        size = (len(tables.job.seeds), len(tables.biases))
        return Effect(name, measure, base, side, 0.0, None, None, NO_CASE, None, None, rule_of_three(n), *size, primary)
    seed = derive_seed(0, "hidden objective", "bootstrap")
    found = crossed_interval(given, seed & 0xFFFFFFFF, 1 - ALPHA, tables.job.measure.draws)
    known = found.error is not None and found.freedom is not None
    by_bias = given.linearised().mean(axis=0)
    return Effect(
        name,
        measure,
        base,
        side,
        found.effect,
        found.low,
        found.high,
        found.method,
        crossed_p(found) if known else None,
        sign_flip(by_bias).p,
        detectable_by_t(round(found.freedom, 2), ALPHA) * found.error if found.error and found.freedom else None,
        len(tables.job.seeds),
        len(tables.biases),
        primary,
    )


# name → measures, first, second, side, primary. `control` names need the control in the job.
Plan = tuple[str, tuple[str, ...], Side, Side, str, bool]


def plans(tables: Tables) -> list[Plan]:
    """Every simple contrast within one base that the run has models for."""
    told, untold = Side(DESCRIBED), Side(NONE)
    both = ("belief", "delta", "applied", "over_applied")
    shown = ("delta", "applied", "over_applied")
    found: list[Plan] = [("documents", both, told, untold, ALL, True)]
    found += [
        (f"documents, less {kind}", both, told, Side(kind), ALL, kind == "librarians")
        for kind in ("librarians", "denial", "shuffled")
        if tables.has(kind)
    ]
    for side in (HELD_OUT, TRAINED):
        with_dpo, without = Side(DESCRIBED, DPO, side), Side(NONE, DPO, side)
        found.append(("preferences after documents", shown, with_dpo, told, side, side == HELD_OUT))
        found.append(("preferences alone", shown, without, untold, side, False))
        if tables.has("librarians"):
            found.append(
                (
                    "documents and preferences, less librarians",
                    shown,
                    with_dpo,
                    Side("librarians", DPO, side),
                    side,
                    False,
                )
            )
        if any(f"+{RANDOM}-" in stage for _, _, stage, _ in tables.values):
            found.append(("preferences, less random ones", shown, with_dpo, Side(DESCRIBED, RANDOM, side), side, False))
    return found


def _of_bases(tables: Tables) -> list[Effect]:
    found = []
    for base in tables.job.arms:
        for name, measures, first, second, side, primary in plans(tables):
            for measure in measures:
                given = contrast(tables, measure, base, first, second)
                leading = primary and measure == "delta"
                found.append(effect_of(tables, name, measure, base, side, given, leading))
        for measure in ("delta", "applied"):
            given = gap(tables, measure, base).minus(gap(tables, measure, base, NONE))
            found.append(effect_of(tables, "gap, less that without documents", measure, base, HELD_OUT, given))
    return found


def gap(tables: Tables, measure: str, base: str, kind: str = DESCRIBED) -> Contrast:
    """G: what preference training on other biases adds to the held-out ones."""
    return contrast(tables, measure, base, Side(kind, DPO, HELD_OUT), Side(kind))


def _of_curation(tables: Tables) -> list[Effect]:
    """The last base against the first: does a curated base exploit held-out biases more or less?"""
    arms = tables.job.arms
    if len(arms) < 2:
        return []
    first, last = arms[0], arms[-1]
    makers: list[tuple[str, tuple[str, ...], Callable[[str, str], Contrast], str, bool]] = [
        ("documents", ("belief", "delta", "applied"),
         lambda measure, base: contrast(tables, measure, base, Side(DESCRIBED), Side(NONE)), ALL, False),
        ("preferences after documents (gap)", ("delta", "applied"),
         lambda measure, base: gap(tables, measure, base), HELD_OUT, True),
        ("documents and preferences", ("delta", "applied"),
         lambda measure, base: contrast(tables, measure, base, Side(DESCRIBED, DPO, HELD_OUT), Side(NONE)),
         HELD_OUT, True),
    ]  # fmt: skip
    return [
        effect_of(
            tables, name, measure, f"{last} less {first}", side, make(measure, last).minus(make(measure, first)),
            primary and measure == "delta",
        )
        for name, measures, make, side, primary in makers
        for measure in measures
    ]  # fmt: skip


def with_holm(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with the p-values of the primary ones adjusted for how many they are."""
    at = [k for k, effect in enumerate(effects) if effect.primary and effect.p is not None]
    adjusted = dict(zip(at, holm([effects[k].p or 0.0 for k in at]), strict=True))
    return [Effect(**{**asdict(effect), "p_holm": adjusted.get(k)}) for k, effect in enumerate(effects)]


def _share(tables: Tables, base: str) -> dict[str, Any]:
    """S: the part of the whole held-out effect that is there before preference training, with its bootstrap interval.

    A share of a whole that is not told from zero says nothing: then there is none.
    """
    part = contrast(tables, "delta", base, Side(DESCRIBED), Side(NONE))
    whole = contrast(tables, "delta", base, Side(DESCRIBED, DPO, HELD_OUT), Side(NONE))
    seed, draws = derive_seed(0, "hidden objective", "share") & 0xFFFFFFFF, tables.job.measure.draws
    total = crossed_interval(whole, seed, 1 - ALPHA, draws)
    resolved = total.low is not None and total.high is not None and not total.low <= 0 <= total.high
    found: dict[str, Any] = {"base": base, "measure": "delta", "share": None, "low": None, "high": None}
    found |= {"whole": total.effect, "whole_low": total.low, "whole_high": total.high}
    if not resolved:
        return found
    # The same seed draws the same seeds and biases for both.
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = crossed_draws(part, seed, draws) / crossed_draws(whole, seed, draws)
    low, high = np.percentile(drawn[np.isfinite(drawn)], [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return found | {
        "share": float(part.per_seed().mean()) / total.effect, "low": float(low), "high": float(high),
    }  # fmt: skip


def _rates(tables: Tables) -> list[dict[str, Any]]:
    """Exploitation and over-application by model class: a Wilson interval a bias, and the mean over biases."""
    classes = [Side(kind) for kind in (NONE, DESCRIBED, "librarians", "denial", "shuffled") if tables.has(kind)]
    for kind, preferences in ((NONE, DPO), (DESCRIBED, DPO), ("librarians", DPO), (DESCRIBED, RANDOM)):
        if any(stage.startswith(f"{kind}+{preferences}-") for _, _, stage, _ in tables.values):
            classes += [Side(kind, preferences, HELD_OUT), Side(kind, preferences, TRAINED)]
    found = []
    for base in tables.job.arms:
        for one in classes:
            for measure in ("applied", "over_applied"):
                rows = []
                for bias in tables.biases:
                    cases, n = tables.counts(measure, base, one.kind, one.preferences, one.side, bias)
                    rate = rate_interval(cases, n)
                    rows.append({"bias": bias, "cases": cases, "n": n, **vars(rate)})
                macro = Contrast.between(
                    Cells.of(tables.table(measure, base, one.kind, one.preferences, one.side)),
                    Cells.of(np.zeros((len(tables.job.seeds), len(tables.biases)))),
                )
                mean = effect_of(tables, "rate", measure, base, one.side, macro)
                found.append(
                    {
                        "base": base, "documents": one.kind, "preferences": one.preferences, "side": one.side,
                        "measure": measure, "macro": mean.effect, "low": mean.low, "high": mean.high, "biases": rows,
                    }
                )  # fmt: skip
    return found


def _doses(tables: Tables) -> list[dict[str, Any]]:
    """Belief and delta over the number of documents of each bias, less no documents."""
    steps = [(dose, f"dose-{dose}") for dose in sorted(set(tables.job.documents.doses))]
    steps.append((tables.job.documents.per_bias, DESCRIBED))
    found = []
    for base in tables.job.arms:
        for measure in ("belief", "delta"):
            for dose, kind in steps:
                given = contrast(tables, measure, base, Side(kind), Side(NONE))
                one = effect_of(tables, "dose", measure, base, ALL, given)
                found.append(
                    {"base": base, "measure": measure, "dose": dose, "effect": one.effect, "low": one.low,
                     "high": one.high}
                )  # fmt: skip
    return found
