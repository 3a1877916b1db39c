"""Gopher's repetition rules: does the document say the same thing again and again?

Source: Rae et al. 2021 (arXiv:2112.11446), table A1. Implementations differ in what is counted; see
docs/reference/divergences.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of, ratio
from curation.kernels.repetition import DUPLICATE_N, TOP_N, duplicate_segments, ngram_chars
from curation.kernels.words import WordsOf, char_counts, words
from curation.settings import Settings

TOP_SIGNALS = tuple(f"top_{n}_gram_char_fraction" for n in TOP_N)
DUPLICATE_SIGNALS = tuple(f"duplicate_{n}_gram_char_fraction" for n in DUPLICATE_N)


class GopherRepetitionSettings(Settings):
    """Thresholds of table A1; null turns a rule off."""

    words: WordsOf = "whitespace"  # Dolma splits at white space; `datatrove` sets punctuation apart
    # `datatrove` counts the repeats and divides by the characters of the text; `dolma` counts every copy, the first
    # too, and divides n-gram characters by those of the words.
    copies: Literal["datatrove", "dolma"] = "datatrove"
    max_duplicate_line_fraction: float | None = Field(default=0.30, ge=0)
    max_duplicate_paragraph_fraction: float | None = Field(default=0.30, ge=0)
    max_duplicate_line_char_fraction: float | None = Field(default=0.20, ge=0)
    max_duplicate_paragraph_char_fraction: float | None = Field(default=0.20, ge=0)
    max_top_2_gram_char_fraction: float | None = Field(default=0.20, ge=0)
    max_top_3_gram_char_fraction: float | None = Field(default=0.18, ge=0)
    max_top_4_gram_char_fraction: float | None = Field(default=0.16, ge=0)
    max_duplicate_5_gram_char_fraction: float | None = Field(default=0.15, ge=0)
    max_duplicate_6_gram_char_fraction: float | None = Field(default=0.14, ge=0)
    max_duplicate_7_gram_char_fraction: float | None = Field(default=0.13, ge=0)
    max_duplicate_8_gram_char_fraction: float | None = Field(default=0.12, ge=0)
    max_duplicate_9_gram_char_fraction: float | None = Field(default=0.11, ge=0)
    max_duplicate_10_gram_char_fraction: float | None = Field(default=0.10, ge=0)


class GopherRepetition(Filter[GopherRepetitionSettings]):
    name = "gopher_repetition"
    summary = "Gopher's repetition rules: duplicate lines, paragraphs and word n-grams"
    settings_type = GopherRepetitionSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("duplicate_line_fraction", "float64", "share of lines that repeat an earlier one"),
        Signal("duplicate_paragraph_fraction", "float64", "share of paragraphs that repeat an earlier one"),
        Signal("duplicate_line_char_fraction", "float64", "share of characters in duplicate lines"),
        Signal("duplicate_paragraph_char_fraction", "float64", "share of characters in duplicate paragraphs"),
        *(
            Signal(name, "float64", f"share of characters in the most frequent word {n}-gram")
            for n, name in zip(TOP_N, TOP_SIGNALS, strict=True)
        ),
        *(
            Signal(name, "float64", f"share of characters in repeated word {n}-grams")
            for n, name in zip(DUPLICATE_N, DUPLICATE_SIGNALS, strict=True)
        ),
    )
    measured_by = ("words", "copies")

    def measure(self, batch: DocumentBatch, settings: GopherRepetitionSettings) -> dict[str, pa.Array]:
        dolma = settings.copies == "dolma"
        chars = char_counts(batch.texts)
        n_lines, dup_lines, line_chars, n_paragraphs, dup_paragraphs, paragraph_chars = batch.texts.shared(
            ("duplicate_segments", dolma), lambda texts: duplicate_segments(texts, dolma)
        ).T
        table = words(batch.texts, settings.words)
        grams = batch.texts.shared(("ngram_chars", settings.words, dolma), lambda _: ngram_chars(table, dolma))
        columns = {
            "duplicate_line_fraction": ratio(dup_lines, n_lines),
            "duplicate_paragraph_fraction": ratio(dup_paragraphs, n_paragraphs),
            "duplicate_line_char_fraction": ratio(line_chars, chars),
            "duplicate_paragraph_char_fraction": ratio(paragraph_chars, chars),
        }
        for k, name in enumerate(TOP_SIGNALS + DUPLICATE_SIGNALS):
            columns[name] = ratio(grams[:, k], _denominator(table.chars, table.doc_words, name) if dolma else chars)
        return {name: pa.array(column) for name, column in columns.items()}

    def bounds(self, settings: GopherRepetitionSettings) -> tuple[Bound, ...]:
        s = settings
        segments = (
            ("duplicate_lines", "duplicate_line_fraction", s.max_duplicate_line_fraction),
            ("duplicate_paragraphs", "duplicate_paragraph_fraction", s.max_duplicate_paragraph_fraction),
            ("duplicate_line_chars", "duplicate_line_char_fraction", s.max_duplicate_line_char_fraction),
            (
                "duplicate_paragraph_chars",
                "duplicate_paragraph_char_fraction",
                s.max_duplicate_paragraph_char_fraction,
            ),
        )
        rules = [
            (f"too_many_{code}", signal, "above", limit, code.replace("_", " ")) for code, signal, limit in segments
        ]
        for name in TOP_SIGNALS + DUPLICATE_SIGNALS:
            code = f"too_much_{name.removesuffix('_char_fraction')}"
            rules.append(
                (code, name, "above", getattr(s, f"max_{name}"), "one n-gram, or repeated ones, fill the text")
            )
        return bounds_of(tuple(rules))


def _denominator(
    chars: np.ndarray[tuple[int], np.dtype[np.int32]], doc_words: np.ndarray[tuple[int], np.dtype[np.int64]], name: str
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Dolma's denominator: characters of the words (top n-grams), or of all n-grams with their overlaps."""
    sums = np.concatenate([[0], np.cumsum(chars, dtype=np.int64)])
    first, last = doc_words[:-1], doc_words[1:]
    if name in TOP_SIGNALS:
        return np.asarray(sums[last] - sums[first])
    n = DUPLICATE_N[DUPLICATE_SIGNALS.index(name)]
    windows = np.concatenate([[0], np.cumsum(np.concatenate([sums[n:] - sums[:-n], np.zeros(n, np.int64)]))])
    until = np.maximum(last - n + 1, first)  # n-grams of a document end before its last n - 1 words
    return np.asarray(windows[until] - windows[first])


FILTERS.add("gopher_repetition", GopherRepetition())
