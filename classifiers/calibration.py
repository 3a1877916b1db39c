"""Raw scores → probabilities: isotonic regression, kept as a short table; reliability and its error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A non-decreasing piecewise-linear map from raw score to probability."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def apply(self, raw: F64) -> F64:
        """Probabilities of `raw`; constant beyond the first and last knot."""
        return np.interp(raw, self.x, self.y)

    def plain(self) -> dict[str, list[float]]:
        return {"x": list(self.x), "y": list(self.y)}

    @classmethod
    def load(cls, path: Path, key: str) -> Calibration:
        table = json.loads(path.read_text(encoding="utf-8"))[key]
        return cls(tuple(table["x"]), tuple(table["y"]))


def fit_isotonic(raw: F64, positive: F64, weight: F64 | None = None, knots: int = 64) -> Calibration:
    """The isotonic map of `raw` to P(positive), thinned to at most `knots` points and kept inside (0, 1).

    Args:
        raw: any scores, shape (n,). positive: 0 or 1, shape (n,). weight: of each row.

    Source:
        Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(raw, kind="stable")
    fitted = isotonic_regression(positive[order], weights=None if weight is None else weight[order]).x
    at = np.unique(np.linspace(0, len(order) - 1, 8 * knots).round().astype(int))
    x, y = raw[order][at], np.clip(fitted[at], 1e-4, 1 - 1e-4)
    steps = np.flatnonzero(np.r_[True, np.diff(y) > 0] | np.r_[np.diff(y) > 0, True])
    if len(steps) > knots:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, knots).round().astype(int))]
    rounded_x, rounded_y = x[steps].round(5), y[steps].round(5)
    _, first = np.unique(rounded_x, return_index=True)
    return Calibration(tuple(map(float, rounded_x[first])), tuple(map(float, np.maximum.accumulate(rounded_y[first]))))


def expected_calibration_error(probability: F64, positive: F64, bins: int = 15) -> float:
    """ECE: the mean gap between stated and observed frequency over `bins` equal-width bins, weighted by their size.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3 (15 bins as there).
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    stated = np.bincount(index, weights=probability, minlength=bins)
    seen = np.bincount(index, weights=positive, minlength=bins)
    return float(np.abs(stated - seen)[count > 0].sum() / max(len(probability), 1))
