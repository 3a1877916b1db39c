"""Tokens → windows and sentences: the pieces of a document that are scored, each with its place.

A window ends at a line break once it has `min_line` tokens, at a sentence end once it has `min_sentence`, and always
at `max_tokens`; a document's windows cover all its tokens, once. So one comment of a thread is one window, and a long
paragraph is several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from classifiers.tokens import I64, LINE, SENTENCE, Tokens
from curation.settings import Settings

WINDOW_END, SENTENCE_END = 0, 1


class WindowSettings(Settings):
    """How a document is cut. Set by hand, not tuned: comments apart, paragraphs in pieces of tweet length."""

    min_line: int = 3
    min_sentence: int = 20
    max_tokens: int = 60


SENTENCES = WindowSettings(min_line=1, min_sentence=1, max_tokens=200)


@dataclass(frozen=True)
class Windows:
    """Windows of a batch: tokens [first[w], last[w]) of row[w]; bounds[i]:bounds[i + 1] are the windows of row i."""

    bounds: I64
    row: npt.NDArray[np.int64]
    first: I64
    last: I64

    def __len__(self) -> int:
        return len(self.first)


def cut(tokens: Tokens, settings: WindowSettings) -> Windows:
    """The windows of every row; a row without tokens has none."""
    return Windows(*_cut(tokens.bounds, tokens.breaks, settings.min_line, settings.min_sentence, settings.max_tokens))


@njit(nogil=True, cache=True)
def _cut(bounds, breaks, min_line, min_sentence, max_tokens):  # type: ignore[no-untyped-def]
    rows = len(bounds) - 1
    total = len(breaks)
    row_of = np.empty(total, np.int64)
    first = np.empty(total, np.int64)
    last = np.empty(total, np.int64)
    starts = np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        begin = bounds[row]
        for k in range(bounds[row] + 1, bounds[row + 1] + 1):
            size = k - begin
            ends = k == bounds[row + 1] or size >= max_tokens
            if not ends:
                ends = (breaks[k] >= LINE and size >= min_line) or (breaks[k] >= SENTENCE and size >= min_sentence)
            if ends:
                row_of[n], first[n], last[n] = row, begin, k
                n += 1
                begin = k
        starts[row + 1] = n
    return starts, row_of[:n].copy(), first[:n].copy(), last[:n].copy()


def row_top_mean(values: npt.NDArray[np.float64], bounds: I64, share: float) -> npt.NDArray[np.float64]:
    """Mean of each row's highest ceil(share · n) values; NaN for a row without any."""
    return np.asarray(_row_top_mean(values, bounds, share))


@njit(nogil=True, cache=True)
def _row_top_mean(values, bounds, share):  # type: ignore[no-untyped-def]
    out = np.full(len(bounds) - 1, np.nan)
    for row in range(len(bounds) - 1):
        count = bounds[row + 1] - bounds[row]
        if count:
            top = int(np.ceil(share * count))
            ordered = np.sort(values[bounds[row] : bounds[row + 1]])
            out[row] = ordered[count - top :].mean()
    return out


def token_at(tokens: Tokens, rows: npt.NDArray[np.int32], points: npt.NDArray[np.int32]) -> I64:
    """Index of the last token of `rows[i]` that starts at or before `points[i]`; its row's first at least."""
    return np.asarray(_token_at(tokens.bounds, tokens.start, rows, points))


@njit(nogil=True, cache=True)
def _token_at(bounds, starts, rows, points):  # type: ignore[no-untyped-def]
    out = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        low, high = bounds[rows[i]], bounds[rows[i] + 1]
        while high - low > 1:
            middle = (low + high) // 2
            if starts[middle] <= points[i]:
                low = middle
            else:
                high = middle
        out[i] = low
    return out
