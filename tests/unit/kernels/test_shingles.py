"""Words, shingles, MinHash: against plain Python, against datasketch, against theory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st

from curation.kernels import unicode_tables
from curation.kernels.shingles import (
    band_hashes,
    fill_table,
    in_table,
    minhash,
    permutations,
    shingle_sets,
    table_slots,
    word_hashes,
)
from curation.kernels.text_batch import TextBatch
from curation.kernels.word_count import word_counts

MASK = (1 << 64) - 1
EMPTY = 0xFFFFFFFF
TRICKY = (
    "The quick brown fox. THE QUICK brown-fox!",
    "",
    " .,;!?\n",
    "a",
    "snake_case and x2 and 3.14",
    "don't stop",
    "ÀÉÎ straße ΣΊΣΥΦΟΣ Привет",
    "İstanbul DŽ ǅ",
    "中文分词 mixed with日本語テスト and ไทย text",
    "العربية كلمات हिन्दी शब्द",
    "emoji 😀 between 👩‍🚀 words",
    "\U00020000\U0002a6d6 beyond the plane",
    "½ ② Ⅷ ٣ numbers that are letters",
    "one\u00a0two\u2003three\u200bfour\ufefffive",
)


def plain_words(text: str) -> list[str]:
    """What a word is, in plain Python: runs of \\w, lower-cased one by one; an unspaced character is one word."""
    classes = unicode_tables.classes()
    words: list[str] = []
    for run in re.findall(r"\w+", text):
        word = ""
        for char in run:
            if classes[ord(char)] & unicode_tables.SINGLE:
                words += [word] if word else []
                words.append(char.lower()[0])
                word = ""
            else:
                word += char.lower()[0]
        words += [word] if word else []
    return words


def fmix64(h: int) -> int:
    """The finaliser of MurmurHash3."""
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ (h >> 33)


def plain_word_hash(word: str) -> int:
    """FNV-1a over code points, then fmix64."""
    h = 0xCBF29CE484222325
    for char in word:
        h = (h ^ ord(char)) * 0x100000001B3 & MASK
    return fmix64(h)


def plain_shingles(text: str, ngram: int) -> set[tuple[str, ...]]:
    words = plain_words(text)
    if not words:
        return set()
    size = min(ngram, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def plain_shingle_hash(words: tuple[str, ...]) -> int:
    h = 0
    for word in words:
        h = (h * 0x9E3779B97F4A7C15 + plain_word_hash(word)) & MASK
    return fmix64(h)


def sets_of(batch: TextBatch, ngram: int) -> Iterator[list[int]]:
    """Of each text the sorted set."""
    flat, offsets = shingle_sets(batch, ngram)
    for a, b in pairwise(offsets):
        yield sorted(flat[a:b].tolist())


def known(text: str) -> bool:
    """Whether this Python's \\w agrees with the pinned Unicode version on every character of `text`."""
    classes = unicode_tables.classes()
    return all(bool(classes[ord(c)] & unicode_tables.WORD) == bool(re.match(r"\w", c)) for c in text)


@pytest.mark.parametrize("text", TRICKY)
def test_words_are_those_of_the_regular_expression(text: str) -> None:
    hashes, offsets = word_hashes(TextBatch.of([text]))

    assert hashes.tolist() == [plain_word_hash(word) for word in plain_words(text)]
    assert offsets.tolist() == [0, len(hashes)]


def test_in_spaced_scripts_words_are_plainly_those_of_re_over_the_lower_case_text() -> None:
    for text in ("The QUICK brown-fox: don't!", "ÀÉÎ straße Привет МИР", "x_1 2.5 %"):
        assert plain_words(text) == re.findall(r"\w+", text.lower())


def test_an_unspaced_character_is_a_word_and_ends_the_run_before_it() -> None:
    assert plain_words("ab中文cd") == ["ab", "中", "文", "cd"]
    assert word_counts(TextBatch.of(["ab中文cd", "ไทย", "カタカナ", "한국어 단어"])).tolist() == [4, 3, 4, 2]


@given(st.lists(st.text(), max_size=6), st.integers(1, 6))
def test_any_text_has_the_words_and_shingles_of_plain_python(texts: list[str], ngram: int) -> None:
    texts = [t for t in texts if known(t)]
    batch = TextBatch.of([t.encode("utf-8", "ignore").decode() for t in texts])
    texts = batch.strings()

    hashes, offsets = word_hashes(batch)

    assert hashes.tolist() == [plain_word_hash(w) for t in texts for w in plain_words(t)]
    assert np.diff(offsets).tolist() == [len(plain_words(t)) for t in texts]
    assert list(sets_of(batch, ngram)) == [
        sorted({plain_shingle_hash(s) for s in plain_shingles(t, ngram)}) for t in texts
    ]


@pytest.mark.parametrize("ngram", [1, 2, 5, 13])
def test_shingle_sets_are_the_sets_of_word_n_grams(ngram: int) -> None:
    batch = TextBatch.of(TRICKY)

    for text, found in zip(TRICKY, sets_of(batch, ngram), strict=True):
        grams = plain_shingles(text, ngram)
        assert found == sorted(plain_shingle_hash(gram) for gram in grams)
        assert len(found) == len(grams)  # no two different n-grams share a hash here


def test_a_text_with_fewer_words_than_a_shingle_is_one_shingle() -> None:
    assert [len(s) for s in sets_of(TextBatch.of(["one two three", "one", "one two three four five"]), 5)] == [1, 1, 1]


def test_repeated_n_grams_count_once() -> None:
    assert [len(s) for s in sets_of(TextBatch.of(["a b a b a b a b", "a a a a a a a"]), 2)] == [2, 1]


def test_chosen_rows_have_the_sets_they_have_alone() -> None:
    batch = TextBatch.of(TRICKY)
    rows = np.array([8, 0, 0, 2, 13])
    flat, offsets = shingle_sets(batch, 3, rows)
    everything = list(sets_of(batch, 3))

    assert [sorted(flat[a:b].tolist()) for a, b in pairwise(offsets)] == [everything[r] for r in rows]


def test_a_shingle_stands_where_the_text_has_it_first() -> None:
    flat, _ = shingle_sets(TextBatch.of(["c a b a c d a"]), 1)

    assert flat.tolist() == [plain_shingle_hash((word,)) for word in ("c", "a", "b", "d")]


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=60))
def test_a_table_holds_what_was_put_in_and_nothing_else(values: list[int]) -> None:
    given_values = np.array(values, np.uint64)
    table = np.empty(table_slots(len(values)), np.uint64)
    distinct = np.empty(len(values), np.uint64)
    count = fill_table(given_values, table, distinct)

    assert distinct[:count].tolist() == list(dict.fromkeys(values))
    for value in {*values, *range(50), 2**64 - 1}:
        assert bool(in_table(np.uint64(value), table)) == (value in values)


def test_no_rows_have_no_sets() -> None:
    for batch, rows in ((TextBatch.of(TRICKY), np.zeros(0, np.int64)), (TextBatch.of([]), None)):
        flat, offsets = shingle_sets(batch, 5, rows)
        assert (flat.tolist(), offsets.tolist()) == ([], [0])


def test_a_slice_of_an_arrow_array_is_read_where_it_stands() -> None:
    array = pa.array([*TRICKY, *TRICKY], pa.large_string())
    whole, part = TextBatch(array), TextBatch(array.slice(3, 7))

    assert list(sets_of(part, 5)) == list(sets_of(whole, 5))[3:10]
    assert minhash(part, 5, 112, 1).tolist() == minhash(whole, 5, 112, 1)[3:10].tolist()


def test_a_signature_does_not_depend_on_the_other_texts_of_its_batch() -> None:
    together = minhash(TextBatch.of(TRICKY), 5, 112, 1)

    for text, row in zip(TRICKY, together, strict=True):
        assert minhash(TextBatch.of([text]), 5, 112, 1)[0].tolist() == row.tolist()


def datasketch_signature(hashes: list[int], count: int, seed: int) -> list[int]:
    """The signature of datasketch, fed with the upper 32 bits of shingle hashes."""
    sketch = MinHash(num_perm=count, seed=seed, scheme="affine32", hashfunc=lambda value: value)
    for value in hashes:
        sketch.update(value >> 32)
    return [int(v) for v in sketch.hashvalues]


@pytest.mark.parametrize(("count", "seed", "ngram"), [(112, 1, 5), (56, 1, 5), (1, 3, 1), (100, 7, 2), (128, 1, 3)])
def test_signatures_are_those_of_datasketch_bit_by_bit(count: int, seed: int, ngram: int) -> None:
    batch = TextBatch.of(TRICKY)
    signatures = minhash(batch, ngram, count, seed)

    assert signatures.shape == (len(TRICKY), count)
    for row, hashes in zip(signatures.tolist(), sets_of(batch, ngram), strict=True):
        assert row == datasketch_signature(hashes, count, seed)


def test_signatures_of_every_number_of_shingles_are_those_of_datasketch() -> None:
    """The kernel takes several shingles a step: what is left over at the end must count as well."""
    batch = TextBatch.of([" ".join(f"w{i}" for i in range(words)) for words in range(40)])

    for row, hashes in zip(minhash(batch, 2, 70, 1).tolist(), sets_of(batch, 2), strict=True):
        assert row == datasketch_signature(hashes, 70, 1)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), min_size=1, max_size=4))
def test_signatures_of_any_text_are_those_of_datasketch(texts: list[str]) -> None:
    batch = TextBatch.of(texts)

    for row, hashes in zip(minhash(batch, 5, 16, 1).tolist(), sets_of(batch, 5), strict=True):
        assert row == datasketch_signature(hashes, 16, 1)


def test_a_text_without_words_has_the_empty_signature_and_no_shingle() -> None:
    batch = TextBatch.of(["", "!?", "\n\n"])

    assert (minhash(batch, 5, 112, 1) == EMPTY).all()
    assert list(sets_of(batch, 5)) == [[], [], []]
    assert word_counts(batch).tolist() == [0, 0, 0]


def test_an_empty_batch_has_an_empty_table_of_signatures() -> None:
    assert minhash(TextBatch.of([]), 5, 112, 1).shape == (0, 112)
    assert band_hashes(np.zeros((0, 112), np.uint32), 14, 8).shape == (0, 14)


def test_permutations_are_odd_multipliers_and_a_prefix_is_not_another_seed() -> None:
    a, b = permutations(256, 1)

    assert (a % 2 == 1).all()
    assert len(np.unique(a)) == len(np.unique(b)) == 256
    assert permutations(256, 2)[0].tolist() != a.tolist()


def test_the_share_of_equal_values_estimates_the_jaccard_similarity() -> None:
    """Error of the estimate over 300 pairs: mean 0 and standard deviation sqrt(s (1 - s) / permutations)."""
    rng = np.random.default_rng(5)
    count = 1024
    errors, expected = [], []
    for pair in range(300):
        shared = int(rng.integers(20, 180))
        words = [f"w{pair}x{i}" for i in range(400)]
        left, right = words[:200], words[200 - shared : 400 - shared]
        truth = shared / (400 - shared)
        signatures = minhash(TextBatch.of([" ".join(left), " ".join(right)]), 1, count, pair)
        errors.append(float((signatures[0] == signatures[1]).mean()) - truth)
        expected.append(math.sqrt(truth * (1 - truth) / count))
    scaled = np.array(errors) / np.array(expected)

    assert abs(scaled.mean()) < 4 / math.sqrt(300)
    assert 0.85 < scaled.std() < 1.15  # standard error of a standard deviation: 1 / sqrt(2 n) = 0.041
    assert np.abs(scaled).max() < 4.5


def test_a_band_key_is_a_hash_of_its_rows_and_its_number() -> None:
    signatures = minhash(TextBatch.of(TRICKY), 2, 12, 1)
    keys = band_hashes(signatures, 3, 4)

    for doc, row in enumerate(signatures.tolist()):
        for band in range(3):
            h = (band + 1) * 0xD6E8FEB86659FD93 & MASK
            for value in row[band * 4 : band * 4 + 4]:
                h = fmix64(h ^ value)
            assert int(keys[doc, band]) == h


def test_equal_rows_have_equal_keys_in_their_band_and_different_ones_in_another() -> None:
    row = np.arange(8, dtype=np.uint32)
    keys = band_hashes(np.stack([np.concatenate([row, row]), np.concatenate([row, row + 1])]), 2, 8)

    assert keys[0, 0] == keys[1, 0]
    assert len(np.unique(keys)) == 3
