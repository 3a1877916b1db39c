"""Effects between arms, out of sums over clusters of items, one row a seed.

In: for every arm of a contrast, the sums of its scores in each (seed, cluster). Out: the effect of each seed, and its
linearisation, from which `bootstrap.py` takes errors and intervals.

An effect is Σ ± f(arm): two terms for an arm against another, four for a difference of differences (after minus before,
or one slice minus another).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

Scale = Literal["difference", "log_ratio", "log_odds_ratio", "log_sd_ratio"]
SCALES: dict[Scale, str] = {
    "difference": "difference of means",
    "log_ratio": "log of the ratio of means",
    "log_odds_ratio": "log of the odds ratio",
    "log_sd_ratio": "log of the ratio of standard deviations",
}


@dataclass(frozen=True)
class Cells:
    """Sums of one arm's scores: Σw, Σwx and Σwx² in each (seed, cluster), each of shape (seeds, clusters)."""

    weight: F64
    total: F64
    squares: F64

    @classmethod
    def of(cls, values: F64) -> Cells:
        """Cells of one score each; NaN is a score that is missing. Args: values, shape (seeds, clusters)."""
        known = ~np.isnan(values)
        filled = np.where(known, values, 0.0)
        return cls(known.astype(np.float64), filled, filled**2)

    def means(self) -> F64:
        """Mean of each seed, shape (seeds,); NaN for a seed without scores."""
        with np.errstate(invalid="ignore"):
            mean: F64 = self.total.sum(axis=1) / self.weight.sum(axis=1)
        return mean


@dataclass(frozen=True)
class Term:
    """One arm in a contrast, with its sign."""

    sign: int
    cells: Cells


@dataclass(frozen=True)
class Contrast:
    """An effect between arms whose seeds (rows) and clusters (columns) are the same."""

    terms: tuple[Term, ...]
    scale: Scale = "difference"

    @classmethod
    def between(cls, treatment: Cells, control: Cells, scale: Scale = "difference") -> Contrast:
        """Treatment minus control."""
        return cls((Term(1, treatment), Term(-1, control)), scale)

    def minus(self, other: Contrast) -> Contrast:
        """The difference of two differences: after minus before, or one slice minus another."""
        return Contrast(self.terms + tuple(Term(-t.sign, t.cells) for t in other.terms), self.scale)

    @property
    def shape(self) -> tuple[int, int]:
        seeds, clusters = self.terms[0].cells.weight.shape
        return seeds, clusters

    def per_seed(self) -> F64:
        """The effect of each seed, shape (seeds,); not finite where a log has no value."""
        effects: F64 = self.resampled(np.ones((1, self.shape[1])))[0]
        return effects

    def resampled(self, clusters: F64) -> F64:
        """The effect of each seed when cluster c counts `clusters[d, c]` times.

        Args:
            clusters: shape (draws, clusters).

        Returns:
            shape (draws, seeds).
        """
        effect = np.zeros((len(clusters), self.shape[0]))
        for term in self.terms:
            weight = clusters @ term.cells.weight.T
            with np.errstate(divide="ignore", invalid="ignore"):
                mean = clusters @ term.cells.total.T / weight
                square = clusters @ term.cells.squares.T / weight if self.scale == "log_sd_ratio" else mean
                effect += term.sign * _transformed(mean, square, self.scale)
        return effect

    def left_out(self) -> F64:
        """The effect, mean over seeds, with each cluster left out, shape (clusters,)."""
        effect = np.zeros(self.shape)
        for term in self.terms:
            sums = [part.sum(axis=1, keepdims=True) - part for part in (term.cells.weight, term.cells.total)]
            squares = term.cells.squares.sum(axis=1, keepdims=True) - term.cells.squares
            with np.errstate(divide="ignore", invalid="ignore"):
                effect += term.sign * _transformed(sums[1] / sums[0], squares / sums[0], self.scale)
        mean: F64 = effect.mean(axis=0)
        return mean

    def linearised(self) -> F64:
        """One number a cell whose row means are the effects of the seeds: a cell's share in the effect.

        Row s is effect_s + C · influence (the delta method; Efron and Tibshirani 1993, section 21.3), so its variance
        over clusters is that of the effect, whatever the scale. Shape (seeds, clusters).
        """
        clusters = self.shape[1]
        out = np.repeat(self.per_seed()[:, None], clusters, axis=1)
        for term in self.terms:
            out += term.sign * clusters * _influence(term.cells, self.scale)
        return out


def _transformed(mean: F64, square: F64, scale: Scale) -> F64:
    if scale == "difference":
        return mean
    if scale == "log_ratio":
        return np.log(mean)
    if scale == "log_odds_ratio":
        return np.log(mean) - np.log1p(-mean)
    return 0.5 * np.log(square - mean**2)


def _influence(cells: Cells, scale: Scale) -> F64:
    """Derivative of the transformed mean of each seed by the weight of each cluster; rows sum to zero."""
    weight = cells.weight.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = cells.total.sum(axis=1, keepdims=True) / weight
        centred: F64 = (cells.total - mean * cells.weight) / weight
        if scale == "difference":
            return centred
        if scale in ("log_ratio", "log_odds_ratio"):
            slope = 1 / mean if scale == "log_ratio" else 1 / (mean * (1 - mean))
            return np.asarray(centred * slope, dtype=np.float64)
        variance = cells.squares.sum(axis=1, keepdims=True) / weight - mean**2
        spread = cells.squares - 2 * mean * cells.total + mean**2 * cells.weight
        influence: F64 = (spread - variance * cells.weight) / (2 * variance * weight)
        return influence
