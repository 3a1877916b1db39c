"""What a document does with its sensitive terms: use drops it, mention (quotation, explanation, answer) does not."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class ContextSettings(Settings):
    # Chosen on held-out natural rows of the training sets, never on a ground-truth corpus: from 0.5 to 0.6 mentions
    # wrongly called use fall from 36 to 27 % and uses found from 79 to 72 % (classifiers/weights/context.md). The model
    # abstains from 0.4 to 0.6, so that every span acted on has the role `use`.
    max_use: float = Field(default=0.6, ge=0, le=1, description="a demeaning term used, not mentioned")
    max_document_use: float = Field(default=0.5, ge=0, le=1, description="the document as a whole speaks hatefully")


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
    )

    def bounds(self, settings: ContextSettings) -> tuple[Bound, ...]:
        return (
            Bound("use", "max_use", "at_least", settings.max_use, "uses a demeaning term", "use_spans"),
            Bound("hateful", "document_use", "at_least", settings.max_document_use, "speaks hatefully as a whole"),
        )


FILTERS.add("context", ContextFilter())
