"""Single rates: their intervals, what zero cases allow, and what an imperfect judge does to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from curation.errors import DataContractError, Problem


@dataclass(frozen=True)
class Rate:
    """A share with its interval."""

    rate: float
    low: float
    high: float


def rate_interval(cases: int, n: int, level: float = 0.95, method: Literal["wilson", "exact"] = "wilson") -> Rate:
    """Share of cases among n independent items, n > 0; `exact` is Clopper–Pearson, which never covers less."""
    found = stats.binomtest(cases, n).proportion_ci(level, method=method)
    return Rate(cases / n, float(found.low), float(found.high))


def rule_of_three(n: int, level: float = 0.95) -> float:
    """The largest rate that 0 cases among n allow: 1 − (1 − level)^(1/n), about 3/n at 95 % (Hanley 1983)."""
    return -math.expm1(math.log1p(-level) / n)


@dataclass(frozen=True)
class Labelled:
    """What a judge said about texts whose truth is known."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def sensitivity(self) -> float:
        return self.true_positive / (self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        return self.true_negative / (self.true_negative + self.false_positive)

    @property
    def youden(self) -> float:
        """Sensitivity + specificity − 1: how much of a true difference the judge lets through."""
        return self.sensitivity + self.specificity - 1


def rogan_gladen(rate: float, error: float, judge: Labelled, level: float = 0.95) -> Rate:
    """The true rate behind the rate that an imperfect judge reports, within [0, 1].

    rate' = (rate + specificity − 1) / (sensitivity + specificity − 1); the interval by the delta method holds the
    judge's own uncertainty too (Rogan and Gladen 1978, American Journal of Epidemiology 107(1)).

    Args:
        error: standard error of `rate`, over prompts and seeds.

    Raises:
        DataContractError: the judge does no better than chance, or one class was never labelled.
    """
    positives, negatives = judge.true_positive + judge.false_negative, judge.true_negative + judge.false_positive
    if not positives or not negatives or judge.youden <= 0:
        message = f"a judge of {positives} positives and {negatives} negatives cannot correct a rate"
        raise DataContractError(Problem("bad-judge", message, None, "sensitivity + specificity above 1"))
    corrected = (rate + judge.specificity - 1) / judge.youden
    inside = min(max(corrected, 0.0), 1.0)
    # (k + 1) / (n + 2): a judge without a single error on few texts is not known to be perfect (Agresti and Coull 1998)
    sensitive, specific = (judge.true_positive + 1) / (positives + 2), (judge.true_negative + 1) / (negatives + 2)
    variance = (
        error**2
        + inside**2 * sensitive * (1 - sensitive) / (positives + 2)
        + (1 - inside) ** 2 * specific * (1 - specific) / (negatives + 2)
    ) / judge.youden**2
    reach = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(variance)
    return Rate(inside, max(0.0, corrected - reach), min(1.0, corrected + reach))
