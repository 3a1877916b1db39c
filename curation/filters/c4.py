"""C4's rules: keep lines that look like sentences, then pages with enough of them.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning" (JMLR 21(140)), section 2.2, and its reference
code, TensorFlow Datasets `text/c4_utils.py`, which knows more than the paper (five words a line, three sentences a
page, citations, policy phrases). datatrove has the two numbers the other way round: see docs/reference/divergences.md.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of, spans_column
from curation.kernels.line_rules import C4_LABELS, C4Lines, c4_lines
from curation.kernels.lines import LineTable, lines, phrases_in_lines
from curation.kernels.text_batch import TextBatch
from curation.settings import Settings

# `_POLICY_SUBSTRINGS` of the reference code.
POLICY_PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
PAGE_PHRASES = ("lorem ipsum", "javascript", "{")


class C4Settings(Settings):
    """Numbers of the reference code; null turns a rule off."""

    # "We only retained lines that ended in a terminal punctuation mark (i.e. a period, exclamation mark, question
    # mark, or end quotation mark)"; an ellipsis does not count (code). datatrove adds the apostrophe.
    end_marks: str | None = Field(default='.?!"', pattern=r"^[!-~]+$")
    min_words_per_line: int = Field(default=5, ge=0)  # `_MIN_WORDS_PER_LINE`; datatrove and Dolma: 3
    max_word_chars: int = Field(default=1000, ge=1)  # `_MAX_WORD_LENGTH`
    citations: bool = True  # take [1], [edit] and [citation needed] out
    javascript: bool = True  # "We removed any line with the word Javascript"
    policy_phrases: tuple[str, ...] = Field(default=POLICY_PHRASES, max_length=32)
    lorem_ipsum: bool = True  # "We removed any page where the phrase “lorem ipsum” appeared"
    curly_bracket: bool = True  # "we removed any pages that contained a curly bracket"
    min_sentences: int | None = Field(default=3, ge=0)  # `_MIN_NUM_SENTENCES`; datatrove: 5
    max_chars: int | None = Field(default=190_000, ge=1)  # of the text that is left
    # mC4 (Xue et al. 2021) keeps pages with "at least three lines with 200 or more characters"; off for C4.
    min_long_lines: int | None = Field(default=None, ge=0)
    long_line_chars: int = Field(default=200, ge=1)


class C4(Filter[C4Settings]):
    name = "c4"
    summary = "C4's rules: lines that end a sentence, pages of at least three sentences, no code, no lorem ipsum"
    settings_type = C4Settings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("bad_lines", "int64", "lines that are not blank and break a line rule"),
        Signal("bad_line_spans", "spans", "these lines with their line breaks; the label is the rule"),
        Signal("citations", "int64", "citation marks in lines that stay"),
        Signal("citation_spans", "spans", "these citation marks"),
        Signal("sentences", "int64", "sentences in the lines that stay"),
        Signal("chars_left", "int64", "characters in the lines that stay, without citations, and their breaks"),
        Signal("long_lines", "int64", "long lines among those that stay"),
        Signal("lorem_ipsum", "int64", "lines that end well, have enough words, and say lorem ipsum"),
        Signal("curly_brackets", "int64", "lines that end well, have enough words, and have a curly bracket"),
    )
    measured_by = (
        "end_marks",
        "min_words_per_line",
        "max_word_chars",
        "citations",
        "javascript",
        "policy_phrases",
        "long_line_chars",
    )

    def measure(self, batch: DocumentBatch, settings: C4Settings) -> dict[str, pa.Array]:
        texts = batch.texts
        table = lines(texts, "unicode")
        found = c4_lines(
            texts,
            table,
            settings.end_marks,
            settings.min_words_per_line,
            settings.max_word_chars,
            settings.citations,
        )
        filled = table.words > 0
        labels, lorem, brace = _with_phrases(texts, table, found, settings)
        labels[~filled] = 0
        bad = labels > 0
        kept = filled & ~bad
        of_line = table.documents()
        bad_at = np.flatnonzero(bad)
        citation_columns, citation_chars = _citations(texts, table, found, kept)
        return {
            "bad_lines": pa.array(table.per_document(bad)),
            "bad_line_spans": spans_column(
                len(texts),
                of_line[bad_at],
                table.first_char[bad_at],
                table.first_char[bad_at] + table.chars[bad_at] + table.break_chars[bad_at],
                labels[bad_at],
                C4_LABELS,
            ),
            **citation_columns,
            "sentences": pa.array(table.per_document(np.where(kept, found.sentences, 0))),
            "chars_left": pa.array(
                table.per_document(np.where(bad, 0, table.chars + table.break_chars)) - citation_chars
            ),
            "long_lines": pa.array(table.per_document(kept & (table.chars >= settings.long_line_chars))),
            "lorem_ipsum": pa.array(table.per_document(lorem & filled)),
            "curly_brackets": pa.array(table.per_document(brace & filled)),
        }

    def bounds(self, settings: C4Settings) -> tuple[Bound, ...]:
        s = settings
        lines_and_marks = (
            Bound("bad_line", "bad_lines", "above", 0.0, "a line breaks a line rule", spans="bad_line_spans"),
            *(
                (Bound("citation", "citations", "above", 0.0, "a citation mark stands there", spans="citation_spans"),)
                if s.citations
                else ()
            ),
        )
        return lines_and_marks + bounds_of(
            (
                ("too_few_sentences", "sentences", "below", s.min_sentences, "too few sentences are left"),
                ("too_long", "chars_left", "above", s.max_chars, "the page is too long"),
                ("too_few_long_lines", "long_lines", "below", s.min_long_lines, "too few long lines"),
                ("lorem_ipsum", "lorem_ipsum", "above", 0 if s.lorem_ipsum else None, "placeholder text"),
                ("curly_bracket", "curly_brackets", "above", 0 if s.curly_bracket else None, "code"),
            )
        )


def _with_phrases(
    texts: TextBatch, table: LineTable, found: C4Lines, settings: C4Settings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Line labels with the phrases in, and the lines that condemn their page, in the order of the reference code."""
    bits = phrases_in_lines(texts, table, (*PAGE_PHRASES, *settings.policy_phrases))
    well_formed = found.labels == 0
    javascript = well_formed & ((bits & np.uint64(2)) != 0)
    if not settings.javascript:
        javascript[:] = False
    labels = found.labels.copy()
    labels[javascript] = C4_LABELS.index("javascript")
    labels[well_formed & ~javascript & (bits >= 8)] = C4_LABELS.index("policy")
    lorem = well_formed & ((bits & np.uint64(1)) != 0)
    return labels, lorem, well_formed & ~javascript & ((bits & np.uint64(4)) != 0)


def _citations(
    texts: TextBatch, table: LineTable, found: C4Lines, kept: npt.NDArray[np.bool_]
) -> tuple[dict[str, pa.Array], npt.NDArray[Any]]:
    """The citation columns, and the characters that citations take in each document."""
    stay = kept[found.citation_lines] if len(found.citation_lines) else np.zeros(0, np.bool_)
    at, starts, ends = found.citation_lines[stay], found.citation_starts[stay], found.citation_ends[stay]
    rows = table.documents()[at]
    data = texts.data
    # Citations are ASCII and rare: only the text between the line's start and the mark is decoded.
    before = [len(data[table.starts[x] : s].tobytes().decode()) for x, s in zip(at, starts, strict=True)]
    first = table.first_char[at] + np.array(before, np.int64)
    counts = np.bincount(rows, minlength=len(texts))
    columns = {
        "citations": pa.array(counts.astype(np.int64)),
        "citation_spans": spans_column(
            len(texts), rows, first, first + (ends - starts), np.zeros(len(rows), np.int32), ("citation",)
        ),
    }
    return columns, np.bincount(rows, weights=ends - starts, minlength=len(texts)).astype(np.int64)


FILTERS.add("c4", C4())
