"""RefinedWeb's line rules: cut lines that are not prose, drop documents that lose too much.

Source: Penedo et al. 2023, "The RefinedWeb Dataset for Falcon LLM" (arXiv:2306.01116), section 3.2 and appendix G.2;
the exact patterns as DCLM and Ai2's datamap recipes state them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of, ratio, spans_column
from curation.kernels.line_rules import REFINEDWEB_LABELS, lines_with_phrase_at, refinedweb_lines
from curation.kernels.lines import lines, phrases_in_lines
from curation.settings import Settings


class RefinedwebSettings(Settings):
    """Numbers of the paper and of DCLM's recipe; null turns a rule off."""

    max_uppercase_fraction: float = Field(default=0.5, ge=0, le=1)  # "mainly composed of uppercase characters"
    max_digit_fraction: float = Field(default=0.999999, ge=0, le=1)  # "composed of only numerical characters"
    min_words_per_line: int = Field(default=2, ge=0)  # "it only contains one word"
    max_boilerplate_words: int = Field(default=10, ge=0)  # "short (<= 10 words) and matches a pattern"
    line_starts: tuple[str, ...] = ("sign-in",)  # "at the beginning of the line (e.g. sign-in)"
    line_ends: tuple[str, ...] = ("read more...",)  # "at the end of the line (e.g. Read more...)"
    line_phrases: tuple[str, ...] = Field(default=("items in cart",), max_length=64)  # "anywhere in the line"
    # "if these corrections remove more than 5% of a document, we remove it fully"
    max_removed_words_fraction: float | None = Field(default=0.05, ge=0, le=1)
    min_chars: int | None = Field(default=150, ge=0)  # Ai2's datamap recipe, of what is left


class Refinedweb(Filter[RefinedwebSettings]):
    name = "refinedweb"
    summary = "RefinedWeb's line rules: capitals, bare numbers, counters, one word, boilerplate"
    settings_type = RefinedwebSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("bad_lines", "int64", "lines that are not blank and break a rule"),
        Signal("bad_line_spans", "spans", "these lines with their line breaks; the label is the rule"),
        Signal("removed_words_fraction", "float64", "share of words in these lines"),
        Signal("chars_left", "int64", "characters without these lines and without line breaks"),
    )
    measured_by = (
        "max_uppercase_fraction",
        "max_digit_fraction",
        "min_words_per_line",
        "max_boilerplate_words",
        "line_starts",
        "line_ends",
        "line_phrases",
    )

    def measure(self, batch: DocumentBatch, settings: RefinedwebSettings) -> dict[str, pa.Array]:
        s, texts = settings, batch.texts
        table = lines(texts, "newline")
        boilerplate = phrases_in_lines(texts, table, s.line_phrases)
        boilerplate |= lines_with_phrase_at(texts, table, s.line_starts, s.line_ends).astype(np.uint64)
        labels = refinedweb_lines(
            texts,
            table,
            s.max_uppercase_fraction,
            s.max_digit_fraction,
            s.min_words_per_line,
            boilerplate,
            s.max_boilerplate_words,
        )
        bad = labels > 0
        at = np.flatnonzero(bad)
        removed = table.per_document(np.where(bad, table.words, 0))
        starts = table.first_char[at]
        return {
            "bad_lines": pa.array(table.per_document(bad)),
            "bad_line_spans": spans_column(
                len(texts),
                table.documents()[at],
                starts,
                starts + table.chars[at] + table.break_chars[at],
                labels[at],
                REFINEDWEB_LABELS,
            ),
            "removed_words_fraction": pa.array(ratio(removed, table.per_document(table.words))),
            "chars_left": pa.array(table.per_document(np.where(bad, 0, table.chars))),
        }

    def bounds(self, settings: RefinedwebSettings) -> tuple[Bound, ...]:
        s = settings
        bad_line = Bound("bad_line", "bad_lines", "above", 0.0, "a line is not prose", spans="bad_line_spans")
        return (
            bad_line,
            *bounds_of(
                (
                    (
                        "too_much_removed",
                        "removed_words_fraction",
                        "above",
                        s.max_removed_words_fraction,
                        "the lines to cut are too much of the text",
                    ),
                    ("too_short", "chars_left", "below", s.min_chars, "too little is left"),
                )
            ),
        )


FILTERS.add("refinedweb", Refinedweb())
