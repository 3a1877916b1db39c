"""Toxic sentences, after Dolma: each sentence is scored alone and those at or above .4 are findings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class SentenceSettings(Settings):
    # Dolma v1.6 removes every sentence at or above the threshold (configs/dolma-v1_6/mixing/cc-head.yaml); the
    # threshold itself, .4, is a scoring setting because it decides which spans are recorded.
    max_toxic_sentences: int = Field(default=0, ge=0)


class SentenceFilter(Filter[SentenceSettings]):
    name: ClassVar[str] = "sentence"
    summary: ClassVar[str] = "sentences that score at least .4 on their own, after Dolma"
    settings_type = SentenceSettings
    producer: ClassVar[Producer] = "score"
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("toxic_sentences", "int64", "sentences at or above the threshold"),
        Signal("spans", "spans", "those sentences, code points"),
    )

    def bounds(self, settings: SentenceSettings) -> tuple[Bound, ...]:
        limit = settings.max_toxic_sentences
        return (Bound("toxic_sentence", "toxic_sentences", "above", limit, "holds toxic sentences", "spans"),)


FILTERS.add("sentence", SentenceFilter())
