"""The line scans equal str.split and str.splitlines, and count what plain Python counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from curation.kernels.counts import line_ends_with, marked_lines
from curation.kernels.lines import LineTable, lines, phrases_in_lines, symbol_counts
from curation.kernels.text_batch import TextBatch
from tests.unit.kernels.texts import HARD, TEXTS, real_texts


def plain_lines(text: str, of: str) -> list[tuple[str, str]]:
    """(line, break) pairs."""
    if of == "unicode":
        return [(a, b[len(a) :]) for a, b in zip(text.splitlines(), text.splitlines(keepends=True), strict=True)]
    parts = text.split("\n")
    return [(part, "\n" if i < len(parts) - 1 else "") for i, part in enumerate(parts)]


def check(texts: list[str], of: str) -> None:
    batch = TextBatch.of(texts)
    table: LineTable = lines(batch, of)  # type: ignore[arg-type]
    data = bytes(batch.data)
    plain = [plain_lines(text, of) for text in texts]
    flat = [pair for document in plain for pair in document]
    assert np.diff(table.doc_lines).tolist() == [len(document) for document in plain]
    assert [data[a:b].decode() for a, b in zip(table.starts, table.ends, strict=True)] == [line for line, _ in flat]
    assert [data[a:b].decode() for a, b in zip(table.stripped_starts, table.stripped_ends, strict=True)] == [
        line.strip() for line, _ in flat
    ]
    assert table.chars.tolist() == [len(line) for line, _ in flat]
    assert table.break_chars.tolist() == [len(end) for _, end in flat]
    assert table.words.tolist() == [len(line.split()) for line, _ in flat]
    assert table.longest_word.tolist() == [max(map(len, line.split()), default=0) for line, _ in flat]
    firsts = []
    for document in plain:
        char = 0
        for line, end in document:
            firsts.append(char)
            char += len(line) + len(end)
    assert table.first_char.tolist() == firsts
    assert table.documents().tolist() == [d for d, document in enumerate(plain) for _ in document]
    assert table.per_document(table.words > 0).tolist() == [
        sum(bool(line.split()) for line, _ in document) for document in plain
    ]


@pytest.mark.parametrize("of", ["newline", "unicode"])
def test_lines_of_hard_and_real_texts_equal_plain_python(of: str) -> None:
    check(HARD, of)
    check(real_texts(), of)


@pytest.mark.parametrize("of", ["newline", "unicode"])
@settings(max_examples=80, deadline=None)
@given(texts=TEXTS)
def test_lines_of_any_text_equal_plain_python(of: str, texts: list[str]) -> None:
    check(texts, of)


@settings(max_examples=80, deadline=None)
@given(texts=TEXTS)
def test_symbol_counts_equal_str_count(texts: list[str]) -> None:
    texts = texts + HARD
    assert symbol_counts(TextBatch.of(texts)).tolist() == [
        [t.count("#"), t.count("..."), t.count("…"), t.count("\n"), t.count("{")] for t in texts
    ]


@settings(max_examples=80, deadline=None)
@given(texts=TEXTS)
def test_bullets_and_ellipses_equal_startswith_and_endswith(texts: list[str]) -> None:
    texts = texts + HARD
    batch = TextBatch.of(texts)
    for bullets, ends in (("•-", ("…", "...")), ("*-", ("…",))):
        assert marked_lines(batch, lines(batch, "unicode"), bullets, "..." in ends).tolist() == [
            [
                sum(line.lstrip().startswith(tuple(bullets)) for line in t.splitlines()),
                sum(line.rstrip().endswith(ends) for line in t.splitlines()),
            ]
            for t in texts
        ]


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS)
def test_line_ends_look_at_the_last_code_point(texts: list[str]) -> None:
    texts = texts + HARD
    batch = TextBatch.of(texts)
    points = np.sort(np.array([ord(c) for c in ".…日a\x85"], np.int64))
    flat = [line for t in texts for line in t.split("\n")]
    assert line_ends_with(batch, lines(batch), points).tolist() == [
        bool(line) and ord(line[-1]) in points.tolist() for line in flat
    ]


def test_phrases_are_found_in_any_case_and_only_inside_a_line() -> None:
    phrases = ["javascript", "use cookies", "{"]
    texts = ["We use JavaScript here\nand USE\ncookies", "é use cookies{javascript", "nothing"]
    batch = TextBatch.of(texts)
    flat = [line for t in texts for line in t.split("\n")]
    assert phrases_in_lines(batch, lines(batch), phrases).tolist() == [
        sum(1 << k for k, phrase in enumerate(phrases) if phrase in line.lower()) for line in flat
    ]


def test_phrases_with_capitals_are_refused() -> None:
    batch = TextBatch.of(["a"])
    with pytest.raises(ValueError, match="lower case"):
        phrases_in_lines(batch, lines(batch), ["JavaScript"])
