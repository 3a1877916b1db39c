"""Lines that stand in other documents too: menus, notices, signatures. The dedup pass finds them; this judges them.

Source: Raffel et al. 2020, section 2.2 ("we discarded all but one of any three-sentence span occurring more than once
in the data set"); the published code (TFDS `c4_utils.py`) does it by lower-cased, stripped line and keeps one. A line
of a document that stays is never cut in favour of one in a document that is removed as a copy.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from curation.filters.base import FILTERS, Bound, Filter, Producer, Signal
from curation.settings import Settings


class LineDedupSettings(Settings):
    """Use it with `actions: {repeated_line: cut}`; with `drop` alone one repeated line costs the document."""

    # FineWeb calls a line short up to 30 characters (Penedo et al. 2024, 3.6). Short lines repeat by chance: greetings,
    # headings, answers, lines of verse and of code.
    min_chars: int = Field(default=30, ge=1)
    keep: int = Field(default=1, ge=1, le=1000)  # copies that stay in the corpus: C4 keeps one
    # A text of which less than a fifth is its own is a frame and not a document with a menu around it, which the cut
    # repairs. Of 182,037 documents of Reddit, blogs, news and web pages 41 were above 0.8 and 85 from 0.6 to 0.8; in
    # those read, a title and a date were left above 0.8, a message or a guide below it. Null turns the rule off.
    max_repeated_fraction: float | None = Field(default=0.8, ge=0, le=1)


class LineDedup(Filter[LineDedupSettings]):
    name: ClassVar[str] = "line_dedup"
    summary: ClassVar[str] = "lines that stand in other documents too, and are kept there"
    settings_type = LineDedupSettings
    producer: ClassVar[Producer] = "dedup"
    measured_by: ClassVar[tuple[str, ...]] = ("min_chars", "keep")
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("repeated_lines", "int64", "lines of which enough copies are kept elsewhere, or earlier in this text"),
        Signal("repeated_fraction", "float64", "share of the text's characters in these lines, with their breaks"),
        Signal("spans", "spans", "these lines with their breaks and the blank lines after them; the label is LINE"),
    )

    def bounds(self, settings: LineDedupSettings) -> tuple[Bound, ...]:
        line = Bound("repeated_line", "repeated_lines", "at_least", 1.0, "the same line is kept elsewhere", "spans")
        if settings.max_repeated_fraction is None:
            return (line,)
        most = settings.max_repeated_fraction
        return (line, Bound("mostly_repeated", "repeated_fraction", "above", most, "little of the text is its own"))


FILTERS.add("line_dedup", LineDedup())
