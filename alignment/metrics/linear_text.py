"""A linear n-gram classifier of short texts: fitted from rows, kept as plain arrays, the same in every run.

Another family than the filter's fastText and encoder, so that a judge made of it fails in other ways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import ConfigError, DataContractError, Problem

PENALTY = 1e-4  # area on held-out rows of OLID 0.804; 1e-5: 0.798, 1e-6: 0.782
PASSES = 12  # over the rows
BUCKETS = 1 << 18  # collisions cost less than a point of area on sets of this size (Weinberger 2009, fig. 1)


def _features(texts: Sequence[str]) -> Any:
    try:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        hint = "pip install 'headwater[train]'"
        raise ConfigError(Problem("missing-extra", "judges need scikit-learn", hint=hint)) from None
    word = HashingVectorizer(n_features=BUCKETS, ngram_range=(1, 2), alternate_sign=False, norm="l2")
    character = HashingVectorizer(
        n_features=BUCKETS, analyzer="char_wb", ngram_range=(2, 5), alternate_sign=False, norm="l2"
    )
    return hstack([word.transform(texts), character.transform(texts)]).tocsr()


@dataclass(frozen=True)
class LinearText:
    """Classes with one weight a hashed n-gram."""

    classes: tuple[str, ...]
    weights: npt.NDArray[np.float32]  # (features, outputs); one output for two classes
    bias: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str]) -> LinearText:
        """L2-penalised logistic regression, one class against the rest, classes weighed alike, by SGD."""
        from sklearn.linear_model import SGDClassifier

        model = SGDClassifier(
            loss="log_loss",
            alpha=PENALTY,
            max_iter=PASSES,
            tol=None,
            class_weight="balanced",
            random_state=0,
        )
        model.fit(_features(texts), np.asarray(labels))
        return cls(
            tuple(map(str, model.classes_)), model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
        )

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(texts, classes); of several, each class's own probability over their sum."""
        own = 1 / (1 + np.exp(-(np.asarray(_features(texts) @ self.weights, np.float64) + self.bias)))
        if len(self.classes) == 2:
            return np.concatenate([1 - own, own], axis=1)
        return np.asarray(own / own.sum(1, keepdims=True))

    def sha256(self) -> str:
        """Of classes and weights."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(np.ascontiguousarray(self.weights).tobytes() + np.ascontiguousarray(self.bias).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """One .npz of plain arrays."""
        np.savez_compressed(path, classes=np.array(self.classes), weights=self.weights, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> LinearText:
        """What `save` wrote.

        Raises:
            DataContractError: it is not.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(tuple(map(str, arrays["classes"])), arrays["weights"], arrays["bias"])
        except (OSError, ValueError, KeyError) as error:
            raise DataContractError(Problem("bad-judge", f"not a linear classifier: {error}", str(path))) from None
