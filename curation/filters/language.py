"""Language: is the text, as a whole, in a language that is wanted?

The measure pass asks `classifiers.language.measure` for the signals, because a filter knows no classifier; this file
says what they mean and judges them.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Signal
from curation.settings import Settings


class LanguageSettings(Settings):
    """Which languages are wanted, how sure the model must be, and which model is asked."""

    # Labels of the model: ISO 639-1 codes for lid.176, `eng_Latn` and the like for GlotLID.
    languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    # FineWeb keeps pages that fastText calls English with a score of at least 0.65 (Penedo et al. 2024,
    # arXiv:2406.17557, section 3.3).
    min_score: float = Field(default=0.65, ge=0, le=1)
    model: str | None = None  # path of another fastText model; null: the lid.176 that ships
    model_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")  # refuse any other file


class Language(Filter[LanguageSettings]):
    """Keeps documents whose most likely language is wanted and likely enough."""

    name: ClassVar[str] = "language"
    summary: ClassVar[str] = "the text's language by a fastText model (lid.176 ships) is one of those wanted"
    settings_type = LanguageSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("lang", "string", "most likely language, a label of the model; `und` when it sees nothing it knows"),
        Signal("score", "float32", "the model's probability of that language, 0 to 1"),
        Signal("wanted", "float32", "`score` when that language is wanted, else 0"),
    )
    measured_by: ClassVar[tuple[str, ...]] = ("languages", "model", "model_sha256")

    def bounds(self, settings: LanguageSettings) -> tuple[Bound, ...]:
        text = "not surely in a wanted language"
        return (Bound("other_language", "wanted", "below", settings.min_score, text),)


FILTERS.add("language", Language())
