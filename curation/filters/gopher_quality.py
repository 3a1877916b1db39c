"""Gopher's quality rules: is this natural prose at all?

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher"
(arXiv:2112.11446), appendix A1.1. Where published implementations count differently, a setting named after the
implementation chooses; see docs/reference/divergences.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of, ratio
from curation.kernels.counts import marked_lines, median_word_chars, word_counts
from curation.kernels.lines import lines, symbol_counts
from curation.kernels.words import WordsOf, words
from curation.settings import Settings

BULLETS = {"datatrove": "•-", "dolma": "*-"}


class GopherQualitySettings(Settings):
    """Thresholds of the paper; null turns a rule off."""

    words: WordsOf = "whitespace"  # Dolma and DCLM split at white space; `datatrove` sets punctuation apart
    word_length: Literal["mean", "median"] = "mean"  # the paper says mean; Dolma takes the median of all words
    bullets: Literal["datatrove", "dolma"] = "datatrove"  # • and -, or * and -
    ellipsis: Literal["datatrove", "dolma"] = "datatrove"  # `...` and `…`, or `…` alone
    stop_words_counted: Literal["distinct", "dclm"] = "distinct"  # DCLM counts every occurrence
    # "does not contain at least two of the following English words" (A1.1)
    stop_words: tuple[str, ...] = Field(
        default=("the", "be", "to", "of", "and", "that", "have", "with"), min_length=1, max_length=64
    )
    min_words: int | None = Field(default=50, ge=0)  # "does not contain between 50 and 100,000 words"
    max_words: int | None = Field(default=100_000, ge=0)
    min_word_length: float | None = Field(default=3, ge=0)  # "mean word length is outside the range of 3 to 10"
    max_word_length: float | None = Field(default=10, ge=0)
    # "symbol-to-word ratio greater than 0.1 for either the hash symbol or the ellipsis"
    max_hashes_per_word: float | None = Field(default=0.1, ge=0)
    max_ellipses_per_word: float | None = Field(default=0.1, ge=0)
    # "more than 90% of lines starting with a bullet point, or more than 30% ending with an ellipsis"
    max_bullet_lines_fraction: float | None = Field(default=0.9, ge=0, le=1)
    max_ellipsis_lines_fraction: float | None = Field(default=0.3, ge=0, le=1)
    # "80% of words in a document contain at least one alphabetic character"
    min_alpha_words_fraction: float | None = Field(default=0.8, ge=0, le=1)
    min_stop_words: int | None = Field(default=2, ge=0)


class GopherQuality(Filter[GopherQualitySettings]):
    name = "gopher_quality"
    summary = "Gopher's quality rules: word count and length, symbols, bullets, ellipses, letters, stop words"
    settings_type = GopherQualitySettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("words", "int64", "words with a character that is neither punctuation nor a symbol"),
        Signal("word_length", "float64", "mean (of non-symbol words) or median word length in characters"),
        Signal("hashes_per_word", "float64", "number signs divided by words"),
        Signal("ellipses_per_word", "float64", "ellipses divided by words"),
        Signal("bullet_lines_fraction", "float64", "share of lines that start with a bullet"),
        Signal("ellipsis_lines_fraction", "float64", "share of lines that end with an ellipsis"),
        Signal("alpha_words_fraction", "float64", "share of words with at least one letter"),
        Signal("stop_words", "int64", "stop words found, distinct or all"),
    )
    measured_by = ("words", "word_length", "bullets", "ellipsis", "stop_words_counted", "stop_words")

    def measure(self, batch: DocumentBatch, settings: GopherQualitySettings) -> dict[str, pa.Array]:
        table = words(batch.texts, settings.words)
        total = np.diff(table.doc_words)
        non_symbol, length, alpha, distinct, occurrences = word_counts(table, settings.stop_words).T
        hashes, dots, ellipses, _, _ = symbol_counts(batch.texts).T
        three_dots = settings.ellipsis == "datatrove"
        line_table = lines(batch.texts, "unicode")
        n_lines = np.diff(line_table.doc_lines)
        bullets, trailing = marked_lines(batch.texts, line_table, BULLETS[settings.bullets], three_dots).T
        mean = settings.word_length == "mean"
        return {
            "words": pa.array(non_symbol),
            "word_length": pa.array(ratio(length, non_symbol) if mean else median_word_chars(table)),
            "hashes_per_word": pa.array(ratio(hashes, total)),
            "ellipses_per_word": pa.array(ratio(ellipses + dots if three_dots else ellipses, total)),
            "bullet_lines_fraction": pa.array(ratio(bullets, n_lines)),
            "ellipsis_lines_fraction": pa.array(ratio(trailing, n_lines)),
            "alpha_words_fraction": pa.array(ratio(alpha, total)),
            "stop_words": pa.array(distinct if settings.stop_words_counted == "distinct" else occurrences),
        }

    def bounds(self, settings: GopherQualitySettings) -> tuple[Bound, ...]:
        s = settings
        rules = (
            ("too_few_words", "words", "below", s.min_words, "the text is too short"),
            ("too_many_words", "words", "above", s.max_words, "the text is too long"),
            ("words_too_short", "word_length", "below", s.min_word_length, "words are too short"),
            ("words_too_long", "word_length", "above", s.max_word_length, "words are too long"),
            ("too_many_hashes", "hashes_per_word", "above", s.max_hashes_per_word, "many number signs"),
            ("too_many_ellipses", "ellipses_per_word", "above", s.max_ellipses_per_word, "many ellipses"),
            ("too_many_bullet_lines", "bullet_lines_fraction", "above", s.max_bullet_lines_fraction, "a list"),
            (
                "too_many_ellipsis_lines",
                "ellipsis_lines_fraction",
                "above",
                s.max_ellipsis_lines_fraction,
                "many lines are cut off",
            ),
            (
                "too_few_alpha_words",
                "alpha_words_fraction",
                "below",
                s.min_alpha_words_fraction,
                "few words have letters",
            ),
            ("too_few_stop_words", "stop_words", "below", s.min_stop_words, "not connected English"),
        )
        return bounds_of(rules)


FILTERS.add("gopher_quality", GopherQuality())
