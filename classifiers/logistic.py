"""Logistic regression over named features, with rows weighed so that no source rules by its size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.context import Linear, sigmoid

F64 = npt.NDArray[np.float64]
PENALTY = 1.0  # L2 on standardised features: a unit normal prior on every weight
SOURCE_CAP = 800.0  # effective rows of one source and label, so that no source rules by its size
MAX_RATIO = 2.0  # between the effective rows of two classes of one source


@dataclass(frozen=True)
class Table:
    """Features with labels, weights and splits."""

    x: F64
    y: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    test: npt.NDArray[np.bool_]

    def train_weights(self) -> F64:
        """`weights` of the rows that are learnt from."""
        return self.weights()[~self.test]

    def without(self, source: str) -> Table:
        """The table without one source's rows."""
        kept = self.source != source
        return Table(self.x[kept], self.y[kept], self.source[kept], self.test[kept])

    def weights(self) -> F64:
        """One weight a row: classes weigh the same within a source, and no source weighs more than SOURCE_CAP a class.

        Otherwise the model learns that a term in tweets is use and a term elsewhere is not.
        """
        count = Counter(zip(self.source.tolist(), self.y.tolist(), strict=True))
        smaller = {s: min(n for (other, _), n in count.items() if other == s) for s in set(self.source.tolist())}
        total = {key: min(SOURCE_CAP, n, MAX_RATIO * smaller[key[0]]) for key, n in count.items()}
        return np.array([total[key] / count[key] for key in zip(self.source.tolist(), self.y.tolist(), strict=True)])


def fit_logistic(x: F64, y: npt.NDArray[np.int64], weight: F64, classes: int) -> Linear:
    """Multinomial (classes > 2) or binary logistic regression with an L2 penalty, by L-BFGS from zero."""
    from scipy.optimize import minimize

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = 1.0
    z = (x - mean) / scale
    outputs = 1 if classes == 2 else classes
    target = (y[:, None] == (1 if outputs == 1 else np.arange(classes)[None, :])).astype(np.float64)

    def loss(flat: F64) -> tuple[float, F64]:
        w, b = flat[:-outputs].reshape(-1, outputs), flat[-outputs:]
        logits = z @ w + b
        if outputs == 1:
            p = sigmoid(logits)
            value = -(np.log(np.where(target > 0, p, 1 - p) + 1e-12) * weight[:, None]).sum()
        else:
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            value = -(np.log((p * target).sum(axis=1) + 1e-12) * weight).sum()
        error = (p - target) * weight[:, None]
        gradient = np.r_[(z.T @ error + PENALTY * w).ravel(), error.sum(axis=0)]
        return float(value + 0.5 * PENALTY * (w**2).sum()), gradient

    found = minimize(loss, np.zeros((x.shape[1] + 1) * outputs), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return Linear(mean, scale, found.x[:-outputs].reshape(-1, outputs), found.x[-outputs:])


def plain(model: Linear, names: tuple[str, ...]) -> dict[str, Any]:
    """The JSON table of a model."""

    def rounded(values: F64) -> Any:
        return np.round(values, 5).tolist()

    return {
        "features": list(names),
        "mean": rounded(model.mean),
        "scale": rounded(model.scale),
        "weight": rounded(model.weight),
        "bias": rounded(model.bias),
    }
