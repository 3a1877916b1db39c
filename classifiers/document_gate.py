"""Which documents the encoder reads: a logistic layer over what the first stage and the word lists say of each.

In: tokens, windows with their first-stage probability, mentions. Out: per document the log-odds that a reading would
find something, and per window whether it is read. A word list and a bag of words see where a group is named, a term
stands or a reader is addressed; whether that is hate is what the encoder is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from classifiers.base import load_card, resource
from classifiers.context import ContextReader, Linear
from classifiers.context_features import CATEGORIES, CUES, document_rates
from classifiers.tokens import Tokens
from classifiers.windows import Windows, row_top_mean, token_at
from curation.kernels.text_batch import TextBatch
from curation.lexicon.matcher import Hits

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HIGHEST = 3  # windows of a document that are seen one by one
SUSPICIOUS = np.array([0.1, 0.2, 0.3, 0.5])  # first-stage probabilities from which windows are counted
DOUBTFUL = 0.1  # and those that name a group as well
IDENTITY, ATTACK, HOSTILE, SECOND = 1, 2, 4, 8  # what a window holds, as bits
HOLDS = np.array([IDENTITY, ATTACK, IDENTITY | ATTACK, HOSTILE, SECOND])
ATTACKING = ("slur", "insult", "hate_ideology")  # categories of terms that attack somebody
SHORT = 30  # tokens
RAREST = 1e-4  # probabilities are kept this far from 0 and 1 before their log-odds are taken

NAMES = (
    "highest", "second_highest", "third_highest", "worst_fifth", "worst_half",
    *(f"windows_{level:.1f}" for level in SUSPICIOUS), *(f"share_{level:.1f}" for level in SUSPICIOUS),
    "windows", "profanity_rate", "insult_rate", "terms", *(f"terms_{category}" for category in CATEGORIES),
    *(f"rate_{cue}" for cue in CUES),
    "highest_identity", "highest_attack", "highest_identity_attack", "highest_hostile", "highest_second",
    "windows_identity", "windows_doubtful_identity", "short",
)  # fmt: skip


def gate_features(
    batch: TextBatch, tokens: Tokens, windows: Windows, first: F64, hits: Hits, reader: ContextReader
) -> F64:
    """Features of every document, shape (len(batch), len(NAMES)); `first` is the first stage's, per window."""
    size = len(batch)
    cues = np.zeros(len(tokens.start), np.int64)
    reader.mark_cues(batch, tokens, np.arange(size), cues)
    category = reader.category(hits)
    attack = ~hits.guarded & np.isin(category, [CATEGORIES.index(name) for name in ATTACKING])
    seen = np.asarray(_windows_seen(windows.bounds, first, _holds(tokens, windows, hits, attack, cues), SUSPICIOUS))
    counts = np.maximum(np.diff(windows.bounds), 1)
    suspicious = seen[:, HIGHEST : HIGHEST + len(SUSPICIOUS)]
    inside = seen[:, HIGHEST + len(SUSPICIOUS) : HIGHEST + len(SUSPICIOUS) + len(HOLDS)]
    listed = [
        np.bincount(hits.row[(category == code) & ~hits.guarded], minlength=size) for code in range(len(CATEGORIES))
    ]
    worst = [np.nan_to_num(row_top_mean(first, windows.bounds, share)) for share in (0.2, 0.5)]
    return np.column_stack(
        (
            _log_odds(seen[:, :HIGHEST]), _log_odds(np.stack(worst, axis=1)),
            np.log1p(suspicious), suspicious / counts[:, None], np.log(counts),
            reader.term_rates(tokens, hits), np.log1p(np.bincount(hits.row, minlength=size)),
            np.log1p(np.stack(listed, axis=1)), document_rates(tokens.bounds, cues), _log_odds(inside),
            np.log1p(seen[:, -2:]), np.diff(tokens.bounds) < SHORT,
        )
    )  # fmt: skip


def _holds(
    tokens: Tokens, windows: Windows, hits: Hits, attack: Mask, cues: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Per window the bits of what it holds."""
    found = np.zeros(len(windows), np.int64)
    for bit, cue in ((IDENTITY, "identity"), (HOSTILE, "hostile"), (SECOND, "second")):
        before = np.r_[0, np.cumsum((cues >> CUES.index(cue)) & 1)]
        found |= bit * (before[windows.last] > before[windows.first])
    if attack.any():
        token = token_at(tokens, hits.row[attack], hits.start[attack])
        at = np.searchsorted(windows.first, token, side="right") - 1
        found[at[at >= 0]] |= ATTACK
    return found


def _log_odds(probability: F64) -> F64:
    p = np.clip(probability, RAREST, 1 - RAREST)
    return np.asarray(np.log(p / (1 - p)))


@njit(nogil=True, cache=True)
def _windows_seen(bounds, first, holds, levels):  # type: ignore[no-untyped-def]
    """Per document: its HIGHEST probabilities, windows from each level on, the highest that holds each of HOLDS,
    windows that name a group, and those of them that are DOUBTFUL."""
    out = np.zeros((len(bounds) - 1, HIGHEST + len(levels) + len(HOLDS) + 2))
    for row in range(len(out)):
        for w in range(bounds[row], bounds[row + 1]):
            p = first[w]
            value = p
            for k in range(HIGHEST):
                if value > out[row, k]:
                    out[row, k], value = value, out[row, k]
            for k in range(len(levels)):
                out[row, HIGHEST + k] += p >= levels[k]
            for k in range(len(HOLDS)):
                if holds[w] & HOLDS[k] == HOLDS[k]:
                    at = HIGHEST + len(levels) + k
                    out[row, at] = max(out[row, at], p)
            out[row, -2] += holds[w] & IDENTITY != 0
            out[row, -1] += (holds[w] & IDENTITY != 0) and p >= DOUBTFUL
    return out


@njit(nogil=True, cache=True)
def _highest_of_each(bounds, first, chosen, count):  # type: ignore[no-untyped-def]
    """Of every chosen document its `count` highest windows; of equal ones the earlier."""
    out = np.zeros(len(first), np.bool_)
    for row in range(len(chosen)):
        a, b = bounds[row], bounds[row + 1]
        if not chosen[row]:
            continue
        if b - a <= count:
            out[a:b] = True
            continue
        for _ in range(count):
            best = -1
            for w in range(a, b):
                if not out[w] and (best < 0 or first[w] > first[best]):
                    best = w
            out[best] = True
    return out


@dataclass(frozen=True)
class DocumentGate:
    """The fitted layer, and what it chooses."""

    model: Linear
    threshold: float  # log-odds from which a document is read
    windows: int  # at most so many of a document are read, so that a long one cannot cost without bound
    reader: ContextReader

    @classmethod
    def load(cls, path: Path, first_stage: str, reader: ContextReader) -> tuple[DocumentGate, dict[str, str]] | None:
        """The gate of a card and the manifest's row; None when it was fitted over another first stage.

        Args:
            first_stage: sha256 of the fastText file in use.

        Raises:
            ConfigError: the card cannot be read.
        """
        card: dict[str, Any] = load_card(path)
        if card["first_stage"] != first_stage:
            return None
        model = Linear.load(card["gate"], NAMES)
        return cls(model, float(card["threshold"]), int(card["windows"]), reader), resource("gate", card, path)

    def asked(self, batch: TextBatch, tokens: Tokens, windows: Windows, first: F64, hits: Hits, held: Mask) -> Mask:
        """Which windows are read: the highest of every chosen document, and those that `held` names.

        A document with a window in `held` is chosen, whatever the layer says of it.
        """
        logits = self.model.logits(gate_features(batch, tokens, windows, first, hits, self.reader))[:, 0]
        chosen = logits >= self.threshold
        chosen[windows.row[held]] = True
        highest: Mask = _highest_of_each(windows.bounds, first, chosen, self.windows)
        return np.asarray(held | highest)
