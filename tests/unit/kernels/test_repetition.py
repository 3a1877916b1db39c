"""Repetition counts equal straightforward Python over dictionaries."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

from curation.kernels.lines import lines
from curation.kernels.repetition import duplicate_line_chars, duplicate_segments, ngram_chars
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import words
from tests.unit.kernels.texts import HARD, TEXTS, real_texts


def copies(parts: list[str], every_copy: bool) -> tuple[int, int, int]:
    counts = Counter(parts)
    if every_copy:
        repeated = {part: n for part, n in counts.items() if n > 1}
    else:
        repeated = {part: n - 1 for part, n in counts.items()}
    return len(parts), sum(repeated.values()), sum(n * len(part) for part, n in repeated.items())


def plain_segments(text: str, every_copy: bool) -> list[int]:
    return [
        *copies(re.split(r"\n+", text), every_copy),
        *copies(re.split(r"\n{2,}", text.strip()), every_copy),
    ]


def plain_ngrams(tokens: list[str], every_copy: bool) -> list[int]:
    out = []
    for n in (2, 3, 4):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if not grams:
            out.append(0)
            continue
        gram, count = Counter(grams).most_common(1)[0]
        out.append(count * len(("" if every_copy else " ").join(gram)))
    for n in range(5, 11):
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if every_copy:
            out.append(sum(c * len("".join(g)) for g, c in Counter(grams).items() if c > 1))
            continue
        seen: set[tuple[str, ...]] = set()
        chars = i = 0
        while i < len(grams):
            if grams[i] in seen:
                chars += len("".join(grams[i]))
                i += n
            else:
                seen.add(grams[i])
                i += 1
        out.append(chars)
    return out


def check(texts: list[str], every_copy: bool) -> None:
    batch = TextBatch.of(texts)
    assert duplicate_segments(batch, every_copy).tolist() == [plain_segments(t, every_copy) for t in texts]
    assert ngram_chars(words(batch), every_copy).tolist() == [plain_ngrams(t.split(), every_copy) for t in texts]
    filled = [[line for line in t.split("\n") if line.strip()] for t in texts]
    assert duplicate_line_chars(batch, lines(batch)).tolist() == [copies(part, False)[2] for part in filled]


@pytest.mark.parametrize("every_copy", [False, True])
def test_repetition_of_hard_and_real_texts_equals_plain_python(every_copy: bool) -> None:
    check(HARD, every_copy)
    check(real_texts(), every_copy)


@pytest.mark.parametrize("every_copy", [False, True])
@settings(max_examples=80, deadline=None)
@given(texts=TEXTS)
def test_repetition_of_any_text_equals_plain_python(every_copy: bool, texts: list[str]) -> None:
    check(texts, every_copy)


def test_the_first_of_equally_frequent_ngrams_is_the_top_one() -> None:
    batch = TextBatch.of(["aaaa bbbb c d"])
    assert ngram_chars(words(batch), False)[0, 0] == len("aaaa bbbb")


def test_the_order_of_documents_does_not_change_their_counts() -> None:
    texts = real_texts()[:80]
    forward = ngram_chars(words(TextBatch.of(texts)), False)
    backward = ngram_chars(words(TextBatch.of(texts[::-1])), False)[::-1]
    assert np.array_equal(forward, backward)
