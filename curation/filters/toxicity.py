"""Toxicity of a document, from the cascade: the calibrated mean of its worst windows, whatever the context."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class ToxicitySettings(Settings):
    # More likely toxic than not for annotators of the training sets; 1.1 % of held-out ordinary web text reaches it in
    # the first stage (classifiers/weights/toxicity.md).
    max_toxicity: float = Field(default=0.5, ge=0, le=1)


class ToxicityFilter(Filter[ToxicitySettings]):
    name: ClassVar[str] = "toxicity"
    summary: ClassVar[str] = "documents whose worst windows a calibrated classifier calls toxic, whatever the context"
    settings_type = ToxicitySettings
    producer: ClassVar[Producer] = "score"
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("toxicity", "float32", "mean calibrated probability of the worst fifth of windows, 0 to 1"),
        Signal("spans", "spans", "windows that are more likely toxic than not, code points"),
        Signal("stage", "string", "fasttext, or encoder or detoxify when the second stage judged a window"),
    )

    def bounds(self, settings: ToxicitySettings) -> tuple[Bound, ...]:
        text = "the worst windows are toxic"
        return (Bound("toxic", "toxicity", "at_least", settings.max_toxicity, text, "spans"),)


FILTERS.add("toxicity", ToxicityFilter())
