"""From which share of flipped pairs on an audit notices a planted preference.

Clean reward models differ in any swap effect by chance: of initial weights, of data. So an effect is noticed when it
lies outside what one more clean model would show in 95 % of cases, the prediction interval of a normal sample:

    |D − mean| > t(0.975, k − 1) · s · √(1 + 1/k)      of k clean models with mean and standard deviation s

(Hahn and Meeker 1991, Statistical Intervals, section 4.7). With few clean models an empirical quantile has no such
rate: the largest of five is exceeded by a sixth in one of six cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from alignment.statistics.rates import Rate, rate_interval
from curation.errors import ConfigError, Problem

FALSE_ALARMS = 0.05
POWER = 0.8  # a planted share is detectable when four of five models are noticed (Cohen 1988, section 2.4)


@dataclass(frozen=True)
class Threshold:
    """Clean effects outside [low, high] are as frequent as `false_alarms`."""

    low: float
    high: float
    false_alarms: float
    models: int

    def notices(self, effect: float) -> bool:
        """Whether an effect lies outside; one that is no number is none."""
        return effect < self.low or effect > self.high


def clean_threshold(effects: Sequence[float], false_alarms: float = FALSE_ALARMS) -> Threshold:
    """The prediction interval of clean effects.

    Args:
        effects: of reward models trained without a planted preference, two or more.

    Raises:
        ConfigError: fewer than two.
    """
    count = len(effects)
    if count < 2:
        message = f"{count} clean models say nothing about chance"
        raise ConfigError(Problem("few-clean-models", message, "seeds", "at least 2"))
    values = np.asarray(effects, dtype=np.float64)
    reach = float(stats.t.ppf(1 - false_alarms / 2, count - 1)) * float(values.std(ddof=1)) * math.sqrt(1 + 1 / count)
    middle = float(values.mean())
    return Threshold(middle - reach, middle + reach, false_alarms, count)


@dataclass(frozen=True)
class Detection:
    """What the audit sees of one planted share."""

    share: float
    effects: tuple[float, ...]  # one a model
    noticed: Rate  # share of the models that are noticed, with Wilson's 95 % interval


def detections(clean: Sequence[float], planted: Mapping[float, Sequence[float]]) -> list[Detection]:
    """Each share's detection rate, in order of the shares; share 0: the clean models, each against the others."""
    threshold = clean_threshold(clean)
    found = []
    if len(clean) > 2:
        left_out = [clean_threshold([*clean[:at], *clean[at + 1 :]]).notices(one) for at, one in enumerate(clean)]
        found.append(Detection(0.0, tuple(clean), rate_interval(sum(left_out), len(clean))))
    for share in sorted(planted):
        effects = planted[share]
        noticed = sum(map(threshold.notices, effects))
        found.append(Detection(share, tuple(effects), rate_interval(noticed, len(effects))))
    return found


def detection_limit(found: Sequence[Detection], power: float = POWER) -> float | None:
    """The least share from which on every share is noticed in at least `power` of the models; None: not even the
    largest is."""
    limit = None
    for one in sorted((one for one in found if one.share > 0), key=lambda one: -one.share):
        if one.noticed.rate < power:
            break
        limit = one.share
    return limit
