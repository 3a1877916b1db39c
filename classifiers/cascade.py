"""The toxicity cascade: a first stage on every window, a second on documents that it may help to read.

In: texts, tokens, windows, mentions. Out: one probability per window, the stage that gave it, and what the encoder read
on the way, which the context model needs too. Windows with a demeaning term are always read; which others, the document
gate says, or, without one, a bound on the first stage's probability. The second stage is the shipped encoder; a
Detoxify model takes over its probability when one is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.document_gate import DocumentGate
from classifiers.encoder import Encoder, Reading, Reads, read_windows, window_span
from classifiers.roles import HATE, TOXIC
from classifiers.tokens import Tokens
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import Windows, token_at
from curation.kernels.text_batch import TextBatch
from curation.lexicon.matcher import Hits

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
STAGES = ("fasttext", "encoder", "detoxify")
MIXED = ("first", "toxic", "hate")  # logits that the second stage's probability is made of


class SecondStage(Protocol):
    """Another judge of short texts, in the encoder's place."""

    def probabilities(self, texts: list[str]) -> F64: ...

    def resource(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Mix:
    """P(toxic) of a window that the encoder read: logistic in the first stage's and the encoder's logits."""

    weight: F64  # (3,), of MIXED
    bias: float

    def probability(self, first: F64, text: F64) -> F64:
        """Of windows with first-stage probability `first` (n,) and encoder logits `text` (n, 3)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(mix_matrix(first, text) @ self.weight + self.bias))))

    @classmethod
    def of(cls, card: dict[str, Any]) -> Mix:
        return cls(np.asarray(card["mix"]["weight"], np.float64), float(card["mix"]["bias"]))


def mix_matrix(first: F64, text: F64) -> F64:
    """The columns MIXED."""
    p = np.clip(first, 1e-4, 1 - 1e-4)
    return np.column_stack((np.log(p / (1 - p)), text[:, TOXIC], text[:, HATE]))


@dataclass(frozen=True)
class Cascade:
    """The loaded stages and when the second is asked."""

    first: FastTextToxicity
    encoder: Reads
    mix: Mix
    low: float  # without a gate: first-stage probability from which a window goes to the second stage
    detoxify: SecondStage | None = None
    gate: DocumentGate | None = None

    @classmethod
    def load(
        cls, first: FastTextToxicity, encoder_card: Path, low: float | None, detoxify: SecondStage | None
    ) -> tuple[Cascade, dict[str, str]]:
        """The cascade and the manifest's row of its encoder; `low` None takes the card's."""
        encoder, card, row = Encoder.load(encoder_card)
        return cls(first, encoder, Mix.of(card), float(card["low"]) if low is None else low, detoxify), row


@dataclass(frozen=True)
class Scored:
    """Window scores of a batch."""

    probability: F64  # per window
    stage: npt.NDArray[np.int8]  # per window, index into STAGES
    reading: Reading
    failed: dict[int, str]  # row → why its second stage gave nothing


def run_cascade(
    batch: TextBatch, tokens: Tokens, windows: Windows, cascade: Cascade, hits: Hits, demeaning: Mask
) -> Scored:
    """Window probabilities. `demeaning`: per hit, whether its term is one that is read wherever it stands."""
    probability = cascade.first.probabilities(tokens, windows)
    held = holding(hits, demeaning, tokens, windows)
    if cascade.gate is None:
        asked = (probability >= cascade.low) | held
    else:
        asked = cascade.gate.asked(batch, tokens, windows, probability, hits, held)
    reading = read_windows(cascade.encoder, batch.array, tokens, windows, hits, asked)
    failed = dict(reading.failed)
    stage = asked.astype(np.int8)
    if cascade.detoxify is None:
        probability[asked] = cascade.mix.probability(probability[asked], reading.text[asked])
        return Scored(probability, stage, reading, failed)
    at = np.flatnonzero(asked)
    for row in np.unique(windows.row[at]).tolist():
        mine = at[windows.row[at] == row]
        text = batch[row]
        pieces = [text[slice(*window_span(text, tokens, windows, w))] for w in mine.tolist()]
        try:
            probability[mine] = cascade.detoxify.probabilities(pieces)
        except Exception as error:  # noqa: BLE001 - the declared classifier border: the row is quarantined by name
            failed[row] = f"toxicity: second stage: {type(error).__name__}"
    return Scored(probability, stage * 2, reading, failed)


def holding(hits: Hits, chosen: Mask, tokens: Tokens, windows: Windows) -> Mask:
    """Which windows hold a chosen hit."""
    holds = np.zeros(len(windows), bool)
    if chosen.any() and len(windows):
        token = token_at(tokens, hits.row[chosen], hits.start[chosen])
        at = np.searchsorted(windows.first, token, side="right") - 1
        holds[at[at >= 0]] = True
    return holds
