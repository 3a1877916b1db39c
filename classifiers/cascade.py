"""The toxicity cascade: the first stage on every window, the second where the first is unsure or a lexicon term stands.

In: texts, tokens, windows, which windows hold a term. Out: one probability per window and the stage that gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.tokens import Tokens
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import Windows

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
STAGES = ("fasttext", "detoxify")


class SecondStage(Protocol):
    """A slower, better judge of short texts."""

    def probabilities(self, texts: list[str]) -> F64: ...

    def resource(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Scored:
    """Window scores of a batch."""

    probability: F64  # per window
    second: Mask  # windows that the second stage judged
    failed: dict[int, str]  # row → why its second stage gave nothing


def run_cascade(
    texts: pa.Array,
    tokens: Tokens,
    windows: Windows,
    first: FastTextToxicity,
    second: SecondStage | None,
    band: tuple[float, float],
    holds_term: Mask,
) -> Scored:
    """Window probabilities; `band` = [low, high] of first-stage probabilities that count as unsure."""
    probability = first.probabilities(tokens, windows)
    asked = np.zeros(len(windows), bool)
    if second is None:
        return Scored(probability, asked, {})
    asked = ((probability >= band[0]) & (probability <= band[1])) | holds_term
    failed: dict[int, str] = {}
    at = np.flatnonzero(asked)
    for row in np.unique(windows.row[at]).tolist():
        mine = at[windows.row[at] == row]
        text = texts[row].as_py()
        pieces = [text[tokens.start[windows.first[w]] : tokens.end[windows.last[w] - 1]] for w in mine]
        try:
            probability[mine] = second.probabilities(pieces)
        except Exception as error:  # noqa: BLE001 - the declared classifier border: the row is quarantined by name
            failed[row] = f"toxicity: second stage: {type(error).__name__}"
    return Scored(probability, asked, failed)
