"""n-grams found by rolling hash and table equal those found by comparing tuples of words."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.kernels.grams import find_grams, gram_hashes, gram_index
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms
from tests.unit.kernels.texts import real_texts

WORDS = ("a", "b", "c", "É", "日", "d.")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join), min_size=1, max_size=5)


def grams_of(text: str, n: int) -> list[tuple[str, ...]]:
    words = [word.lower() for word in re.findall(r"\w+", text)]
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def check(known: list[str], texts: list[str], lengths: tuple[int, ...]) -> None:
    keys, sizes, grams = [], [], []
    for n in lengths:
        hashes, owners = gram_hashes(terms(TextBatch.of(known)), n)
        plain = [(owner, gram) for owner, text in enumerate(known) for gram in grams_of(text, n)]
        assert owners.tolist() == [owner for owner, _ in plain]
        keys.append(hashes)
        sizes.append(np.full(len(hashes), n))
        grams += [gram for _, gram in plain]
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    hits = find_grams(terms(TextBatch.of(texts)), gram_index(distinct, np.concatenate(sizes).astype(np.int64)))
    starts = np.concatenate([[0], np.cumsum([len(grams_of(text, 1)) for text in texts])])
    found = [
        (int(d), int(w - starts[d]), grams[first[g]])
        for d, w, g in zip(hits.documents, hits.words, hits.grams, strict=True)
    ]
    wanted = set(grams)
    assert found == [
        (d, i, gram)
        for n in lengths
        if any(len(gram) == n for gram in wanted)
        for d, text in enumerate(texts)
        for i, gram in enumerate(grams_of(text, n))
        if gram in wanted
    ]


@settings(max_examples=100, deadline=None)
@given(known=TEXTS, texts=TEXTS)
def test_grams_found_equal_those_of_plain_python(known: list[str], texts: list[str]) -> None:
    check(known, texts, (1, 2, 5))


def test_grams_of_real_documents_are_found_in_themselves() -> None:
    texts = real_texts()
    check(texts[::7], texts, (13,))


def test_more_hits_than_the_first_buffer_holds_are_all_returned() -> None:
    batch = TextBatch.of(["a " * 3000])
    hashes, _ = gram_hashes(terms(batch), 13)
    hits = find_grams(terms(batch), gram_index(np.unique(hashes), np.array([13])))
    assert (len(hits.words), hits.words[-1]) == (2988, 2987)


def test_an_empty_index_finds_nothing() -> None:
    index = gram_index(np.zeros(0, np.uint64), np.array([13]))
    assert len(find_grams(terms(TextBatch.of(["a b c " * 20])), index).words) == 0
