"""Removal ratios between documents of the same source and length: direct standardisation. Called by the audit.

A plain ratio mixes whom a filter removes with what it removes: a word list takes long documents (more words, more
chances), a score takes short ones, and groups differ in length. Here the reference's rate is taken in each stratum
(source x length) and weighted by where the group's documents stand, so both sides have the group's lengths and sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.bootstrap import interval, resampled_counts
from curation.seeding import derive_seed

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Upper bounds of the length bands, in characters: quadrupling, so that rates within a band differ little.
BANDS = (64, 256, 1024, 4096, 16384)


@dataclass(frozen=True)
class Adjusted:
    """Removal rate over what the reference's rates give at the same sources and lengths; None where undefined."""

    ratio: float | None
    low: float | None
    high: float | None


def strata(sources: I64, lengths: I64) -> I64:
    """A stratum number for each document, of its source code and its length in characters; shape as given."""
    return sources * (len(BANDS) + 1) + np.digitize(lengths, BANDS)


def adjusted_ratio(group: Bools, reference: Bools, removed: Bools, stratum: I64, seed: int) -> Adjusted:
    """The standardised ratio with its 95 % bootstrap interval.

    Documents of the group in strata without any reference document are left out: there is nothing to compare them
    with. Group and reference may overlap.

    Args:
        group, reference, removed: who is what; shape (documents,).
        stratum: numbers from 0; shape (documents,).
    """
    size = int(stratum.max()) + 1 if len(stratum) else 0
    member = group.astype(np.int64) + 2 * reference
    inside = member > 0
    # Documents of one cell are alike, so a cell's Poisson(1) weights sum to Poisson(count).
    cell = ((member[inside] - 1) * size + stratum[inside]) * 2 + removed[inside]
    counts = np.bincount(cell, minlength=6 * size).astype(np.float64)
    drawn = resampled_counts(counts, derive_seed(seed, "strata"))
    ratio, _, _ = _observed_and_expected(counts[None, :], size)
    _, observed, expected = _observed_and_expected(drawn, size)
    ones = np.ones_like(observed)
    low, high = interval(observed, ones, expected, ones)
    known = bool(np.isfinite(ratio[0]))
    return Adjusted(float(ratio[0]) if known else None, low if known else None, high if known else None)


def _observed_and_expected(counts: F64, size: int) -> tuple[F64, F64, F64]:
    """Per draw: ratio, removed documents of the group, and how many the reference's rates would remove."""
    cells = counts.reshape(len(counts), 3, size, 2)  # group only, reference only, both; kept, removed
    group, reference = cells[:, 0] + cells[:, 2], cells[:, 1] + cells[:, 2]
    total = reference.sum(axis=2)
    comparable = total > 0
    rate = np.divide(reference[..., 1], total, out=np.zeros_like(total), where=comparable)
    observed = np.where(comparable, group[..., 1], 0).sum(axis=1)
    expected = np.where(comparable, group.sum(axis=2) * rate, 0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return observed / expected, observed, expected
