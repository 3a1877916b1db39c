"""How long a document is, in characters and words: the plainest rule, for when no other is wanted."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of
from curation.kernels.words import char_counts, words
from curation.settings import Settings


class LengthSettings(Settings):
    """Null turns a rule off."""

    min_chars: int | None = Field(default=1, ge=0)  # nothing but empty texts: any other floor is the user's choice
    max_chars: int | None = Field(default=None, ge=0)
    min_words: int | None = Field(default=1, ge=0)
    max_words: int | None = Field(default=None, ge=0)


class Length(Filter[LengthSettings]):
    name = "length"
    summary = "documents that are too short or too long"
    settings_type = LengthSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("chars", "int64", "code points of the text"),
        Signal("words", "int64", "white-space words"),
    )

    def measure(self, batch: DocumentBatch, settings: LengthSettings) -> dict[str, pa.Array]:
        return {
            "chars": pa.array(char_counts(batch.texts)),
            "words": pa.array(np.diff(words(batch.texts).doc_words)),
        }

    def bounds(self, settings: LengthSettings) -> tuple[Bound, ...]:
        s = settings
        return bounds_of(
            (
                ("too_few_chars", "chars", "below", s.min_chars, "too few characters"),
                ("too_many_chars", "chars", "above", s.max_chars, "too many characters"),
                ("too_few_words", "words", "below", s.min_words, "too few words"),
                ("too_many_words", "words", "above", s.max_words, "too many words"),
            )
        )


FILTERS.add("length", Length())
