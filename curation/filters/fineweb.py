"""FineWeb's own quality rules: line structure that gives away lists, navigation and boilerplate.

Source: Penedo et al. 2024, "The FineWeb Datasets" (arXiv:2406.17557), section 3.6. The paper drops at the threshold
itself, datatrove only beyond it; datatrove's default for duplicate characters is 0.01 where the paper says 0.1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of, ratio
from curation.kernels.counts import line_ends_with
from curation.kernels.lines import lines, symbol_counts
from curation.kernels.repetition import duplicate_line_chars
from curation.kernels.words import WordsOf, char_counts, words
from curation.settings import Settings

# Unicode 14.0 PropList.txt, property Sentence_Terminal, as [first, last] code points in hexadecimal.
SENTENCE_TERMINALS = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D5 "
    "1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 2024 203C-203D 2047-2049 "
    "2CF9-2CFB 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F "
    "AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 "
    "11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C "
    "115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 "
    "16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88"
)


def sentence_terminals() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The code points that end a sentence, ascending."""
    points: list[int] = []
    for item in SENTENCE_TERMINALS.split():
        first, _, last = item.partition("-")
        points.extend(range(int(first, 16), int(last or first, 16) + 1))
    return np.array(points, np.int64)


class FinewebSettings(Settings):
    """Thresholds of the paper; null turns a rule off."""

    words: WordsOf = "whitespace"  # for newlines per word
    at_threshold: Literal["paper", "datatrove"] = "paper"  # `paper` drops at the threshold, `datatrove` keeps there
    # "the fraction of lines ending with punctuation <= 0.12 (10.14% of tokens removed)"
    min_end_punctuated_lines_fraction: float | None = Field(default=0.12, ge=0, le=1)
    # "the fraction of characters in duplicated lines >= 0.1 (12.47% of tokens removed)"
    max_duplicate_line_char_fraction: float | None = Field(default=0.1, ge=0)
    # "the fraction of lines shorter than 30 characters >= 0.67 (3.73% of tokens removed)"
    max_short_lines_fraction: float | None = Field(default=0.67, ge=0, le=1)
    short_line_chars: int = Field(default=30, ge=1)  # a line of exactly 30 is short, as in datatrove
    # Not in the paper: datatrove's `new_line_ratio`, used to make FineWeb.
    max_newlines_per_word: float | None = Field(default=0.3, ge=0)


class Fineweb(Filter[FinewebSettings]):
    name = "fineweb"
    summary = "FineWeb's rules: lines without end punctuation, short lines, duplicate lines, lists"
    settings_type = FinewebSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("end_punctuated_lines_fraction", "float64", "share of non-blank lines that end a sentence"),
        Signal("short_lines_fraction", "float64", "share of non-blank lines of few characters"),
        Signal("duplicate_line_char_fraction", "float64", "share of characters in lines that repeat an earlier one"),
        Signal("newlines_per_word", "float64", "newlines divided by words"),
    )
    measured_by = ("words", "short_line_chars")

    def measure(self, batch: DocumentBatch, settings: FinewebSettings) -> dict[str, pa.Array]:
        table = lines(batch.texts, "newline")
        filled = table.words > 0
        n_lines = table.per_document(filled)
        ended = table.per_document(line_ends_with(batch.texts, table, sentence_terminals()) & filled)
        short = table.per_document((table.chars <= settings.short_line_chars) & filled)
        newlines = symbol_counts(batch.texts)[:, 3]
        n_words = np.diff(words(batch.texts, settings.words).doc_words)
        duplicate = batch.texts.shared("duplicate_line_chars", lambda texts: duplicate_line_chars(texts, table))
        return {
            "end_punctuated_lines_fraction": pa.array(ratio(ended, n_lines)),
            "short_lines_fraction": pa.array(ratio(short, n_lines)),
            "duplicate_line_char_fraction": pa.array(ratio(duplicate, char_counts(batch.texts) - newlines)),
            "newlines_per_word": pa.array(ratio(newlines, n_words)),
        }

    def bounds(self, settings: FinewebSettings) -> tuple[Bound, ...]:
        s = settings
        low, high = ("at_most", "at_least") if s.at_threshold == "paper" else ("below", "above")
        return bounds_of(
            (
                (
                    "too_few_end_punctuated_lines",
                    "end_punctuated_lines_fraction",
                    low,
                    s.min_end_punctuated_lines_fraction,
                    "few lines end a sentence",
                ),
                ("too_many_short_lines", "short_lines_fraction", high, s.max_short_lines_fraction, "many short lines"),
                (
                    "too_many_duplicate_line_chars",
                    "duplicate_line_char_fraction",
                    high,
                    s.max_duplicate_line_char_fraction,
                    "many lines stand there twice",
                ),
                ("too_many_newlines", "newlines_per_word", "above", s.max_newlines_per_word, "a list, not prose"),
            )
        )


FILTERS.add("fineweb", Fineweb())
