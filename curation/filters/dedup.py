"""Duplicates, as a filter: the dedup pass says which document matched and how closely; this judges it.

Settings of the search itself (bands, shingles, threshold) belong to the job, because all arms share one pass.
"""

from __future__ import annotations

from typing import ClassVar

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class DedupFilterSettings(Settings):
    exact: bool = True
    near: bool = True
    # Below the job's own threshold nothing is recorded; an arm can only be stricter.
    min_jaccard: float = 0.0


class DedupFilter(Filter[DedupFilterSettings]):
    name: ClassVar[str] = "dedup"
    summary: ClassVar[str] = "exact copies and near copies (verified by exact Jaccard) of a document that is kept"
    settings_type = DedupFilterSettings
    producer: ClassVar[Producer] = "dedup"
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("exact", "float64", "1.0 when another document with the same normalised text is kept instead, else 0.0"),
        Signal("near", "float64", "exact Jaccard with the kept document it nearly copies, 0.0 when there is none"),
    )

    def bounds(self, settings: DedupFilterSettings) -> tuple[Bound, ...]:
        bounds = []
        if settings.exact:
            bounds.append(Bound("exact_duplicate", "exact", "at_least", 1.0, "the same text is kept elsewhere"))
        if settings.near:
            threshold = max(settings.min_jaccard, 1e-9)
            bounds.append(Bound("near_duplicate", "near", "at_least", threshold, "nearly the same text is kept"))
        return tuple(bounds)


FILTERS.add("dedup", DedupFilter())
