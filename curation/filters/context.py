"""What a document does with its sensitive terms: use drops it, mention (quotation, explanation, answer) does not."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class ContextSettings(Settings):
    # The model abstains from 0.4 to 0.6: every span acted on has the role `use`. Both bounds were chosen on sets that
    # no model learnt from, never on a ground-truth corpus (docs/results/classifiers.md has the trade): a document bound
    # of 0.6 finds 48 % of hateful Stormfront sentences and 75 % of hateful HateXplain posts at 5 and 24 % of the
    # others; a use bound of 0.8 instead of 0.6 calls a third as many of HateXplain's normal posts use.
    max_use: float = Field(default=0.7, ge=0, le=1, description="a demeaning term used, not mentioned")
    max_document_use: float = Field(default=0.6, ge=0, le=1, description="the document as a whole speaks hatefully")


class ContextFilter(Filter[ContextSettings]):
    name: ClassVar[str] = "context"
    summary: ClassVar[str] = "documents that use demeaning language; those that quote, explain or answer it stay"
    settings_type = ContextSettings
    producer: ClassVar[Producer] = "score"
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("max_use", "float32", "highest probability that a mention of a demeaning category is use, 0 to 1"),
        Signal(
            "document_use", "float32", "probability that the document speaks hatefully itself, with or without terms"
        ),
        Signal("mentions", "mentions", "every sensitive term with its role and the cue that decided it"),
        Signal("use_spans", "spans", "demeaning terms that are used, labelled with their category"),
        Signal("hateful_spans", "spans", "passages that speak hatefully by themselves: where to look first"),
    )

    def bounds(self, settings: ContextSettings) -> tuple[Bound, ...]:
        return (
            Bound("use", "max_use", "at_least", settings.max_use, "uses a demeaning term", "use_spans"),
            Bound(
                "hateful",
                "document_use",
                "at_least",
                settings.max_document_use,
                "speaks hatefully as a whole",
                "hateful_spans",
            ),
        )


FILTERS.add("context", ContextFilter())
