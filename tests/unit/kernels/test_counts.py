"""Word counts and medians equal plain Python over the same words."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given, settings

from curation.kernels import unicode_tables
from curation.kernels.counts import median_word_chars, word_counts
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import words
from tests.unit.kernels.texts import HARD, TEXTS, real_texts

WANTED = ("the", "a", "don't", "é", "naïve")


def has(word: str, bit: int) -> bool:
    return any(unicode_tables.classes()[ord(char)] & bit for char in word)


def plain_counts(text: str) -> list[int]:
    split = text.split()
    real = [w for w in split if not all(has(char, unicode_tables.PUNCT) for char in w)]
    wanted = [w for w in split if w in WANTED]
    letters = [w for w in split if has(w, unicode_tables.ALPHA)]
    return [len(real), sum(map(len, real)), len(letters), len(set(wanted)), len(wanted)]


def check(texts: list[str]) -> None:
    table = words(TextBatch.of(texts))
    assert word_counts(table, WANTED).tolist() == [plain_counts(text) for text in texts]
    assert median_word_chars(table).tolist() == [
        median(map(len, text.split())) if text.split() else 0.0 for text in texts
    ]


def test_counts_of_hard_and_real_texts_equal_plain_python() -> None:
    check(HARD + real_texts())


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS)
def test_counts_of_any_text_equal_plain_python(texts: list[str]) -> None:
    check(texts)


@pytest.mark.parametrize("n", [1, 64])
def test_up_to_64_words_can_be_wanted(n: int) -> None:
    wanted = [f"w{k}" for k in range(n)]
    table = words(TextBatch.of([" ".join(wanted * 2)]))
    assert word_counts(table, wanted)[0, 3:].tolist() == [n, 2 * n]
