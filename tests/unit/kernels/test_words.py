"""The word scans equal plain Python, word for word."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from curation.kernels import unicode_tables
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import HAS_ALPHA, HAS_NON_SYMBOL, WordTable, char_counts, hash_of, terms, words
from tests.unit.kernels.texts import HARD, TEXTS, real_texts


def is_(char: str, bit: int) -> bool:
    return bool(unicode_tables.classes()[ord(char)] & bit)


def split(text: str, keep: int) -> list[str]:
    """Maximal runs of characters with (or, for a negative bit, without) a class bit."""
    out, run = [], ""
    for char in text + ("\n" if keep < 0 else " "):
        inside = not is_(char, -keep) if keep < 0 else is_(char, keep)
        if inside:
            run += char
        elif run:
            out.append(run)
            run = ""
    return out


def plain_whitespace(text: str) -> list[str]:
    return split(text, -unicode_tables.SPACE)


def plain_terms(text: str) -> list[str]:
    return split(text, unicode_tables.WORD)


STICKS = "-/@\\^|~="


def stays_inside(chunk: str, j: int) -> bool:
    mark, before, after = chunk[j], chunk[j - 1], chunk[j + 1 : j + 2]
    if mark == "_":
        return True
    if not after:
        return mark in STICKS
    if is_(after, unicode_tables.PUNCT):
        return False
    letters = is_(before, unicode_tables.ALPHA) and is_(after, unicode_tables.ALPHA)
    digits = before in "0123456789" and after in "0123456789"
    if mark == ".":
        return not (letters and not is_(before, unicode_tables.UPPER) and is_(after, unicode_tables.UPPER))
    if mark == ",":
        return not letters
    if mark == "-":
        return not is_(after, unicode_tables.ALPHA) and not digits
    if mark in "*+^":
        return not digits
    if mark in "/:<=>":
        return not is_(after, unicode_tables.ALPHA)
    if mark in "'’":
        return not re.fullmatch("[sdmSDM]|[rRvV][eE]|[lL][lL]", letters_from(chunk, j + 1))
    return mark.isascii()


def letters_from(chunk: str, j: int) -> str:
    k = j
    while k < len(chunk) and is_(chunk[k], unicode_tables.ALPHA):
        k += 1
    return chunk[j:k]


def negation(chunk: str, i: int) -> bool:
    return chunk[i : i + 3] in {"n't", "n’t"}


def token(chunk: str, i: int) -> str:
    """The token that starts at character `i`."""
    if negation(chunk, i) and i > 0:
        return chunk[i : i + 3]
    j = i + 1
    if is_(chunk[i], unicode_tables.PUNCT):
        if chunk[i] in "'’" and i > 0:
            return chunk[i] + letters_from(chunk, j)
        cut = i > 0 and not (chunk[i - 1].isascii() and is_(chunk[i - 1], unicode_tables.PUNCT))
        if chunk[i] != "." and (cut or chunk[i] not in STICKS):
            return chunk[i]
        while chunk[j : j + 1] == chunk[i]:
            j += 1
        if j == len(chunk) or (chunk[i] == "." and j > i + 1) or is_(chunk[j], unicode_tables.PUNCT):
            return chunk[i:j]
    while j < len(chunk) and not (is_(chunk[j], unicode_tables.PUNCT) and not stays_inside(chunk, j)):
        if negation(chunk, j):
            return chunk[i:j]
        j += 1
    last = chunk[i:j].rpartition(".")[2]
    ascii_letter = len(last.encode()) == 1 and is_(last, unicode_tables.ALPHA)
    if ascii_letter and chunk[j : j + 1] == "." and chunk[j + 1 : j + 2] != ".":
        return chunk[i : j + 1]
    return chunk[i:j]


def is_link(chunk: str) -> bool:
    size = len(chunk.encode())
    return (chunk.startswith("www.") and size >= 5) or (bool(re.match("https?://", chunk)) and size >= 8)


def plain_datatrove(text: str) -> list[str]:
    out = []
    for chunk in plain_whitespace(text):
        i = 0
        while i < len(chunk):
            out.append(chunk[i:] if is_link(chunk[i:]) else token(chunk, i))
            i += len(out[-1])
    return out


PLAIN = {"whitespace": plain_whitespace, "datatrove": plain_datatrove}


def table_of(texts: list[str], of: str) -> tuple[TextBatch, WordTable]:
    batch = TextBatch.of(texts)
    return batch, terms(batch) if of == "terms" else words(batch, of)  # type: ignore[arg-type]


def lowered(word: str) -> str:
    lower = unicode_tables.lower()
    return "".join(chr(lower[ord(c)]) for c in word)


def check(texts: list[str], of: str) -> None:
    batch, table = table_of(texts, of)
    plain = [plain_terms(t) if of == "terms" else PLAIN[of](t) for t in texts]
    flat = [w for document in plain for w in document]
    data = bytes(batch.data)
    assert np.diff(table.doc_words).tolist() == [len(document) for document in plain]
    assert [data[a:b].decode() for a, b in zip(table.starts, table.ends, strict=True)] == flat
    assert table.chars.tolist() == [len(w) for w in flat]
    assert table.hashes.tolist() == [hash_of(lowered(w) if of == "terms" else w) for w in flat]
    assert table.flags.tolist() == [
        (HAS_ALPHA if any(is_(c, unicode_tables.ALPHA) for c in w) else 0)
        | (HAS_NON_SYMBOL if of == "terms" or any(not is_(c, unicode_tables.PUNCT) for c in w) else 0)
        for w in flat
    ]


@pytest.mark.parametrize("of", ["whitespace", "datatrove", "terms"])
def test_words_of_hard_texts_equal_plain_python(of: str) -> None:
    check(HARD, of)


@pytest.mark.parametrize("of", ["whitespace", "datatrove", "terms"])
def test_words_of_real_documents_equal_plain_python(of: str) -> None:
    check(real_texts(), of)


@pytest.mark.parametrize("of", ["whitespace", "datatrove", "terms"])
@settings(max_examples=60, deadline=None)
@given(texts=TEXTS)
def test_words_of_any_text_equal_plain_python(of: str, texts: list[str]) -> None:
    check(texts, of)


def test_whitespace_words_are_those_of_str_split() -> None:
    for text in HARD + real_texts():
        assert plain_whitespace(text) == text.split()
        assert plain_terms(text) == re.findall(r"\w+", text)


def test_the_datatrove_definition_splits_punctuation_and_contractions() -> None:
    text = "I don't, it's $3.50... (see) www.a.org well-known 1,000 in the U.S., at 3 p.m. or don’t -- M-1 AT&T node.js"
    tokens = (
        "I do n't , it 's $ 3.50 ... ( see ) www.a.org well - known 1,000 in the U.S. , at 3 p.m. or do n’t -- "
        "M-1 AT&T node.js"
    )
    assert plain_datatrove(text) == tokens.split(" ")


def test_words_of_a_sliced_array_are_those_of_its_texts() -> None:
    array = pa.array(["skip me", "é one", "two three", "skip"]).slice(1, 2)
    table = words(TextBatch(array))
    assert table.doc_words.tolist() == [0, 2, 4]
    assert table.hashes.tolist() == [hash_of(w) for w in ("é", "one", "two", "three")]


def test_a_batch_tokenises_once_per_definition() -> None:
    batch = TextBatch.of(["a b"])
    assert words(batch) is words(batch, "whitespace")
    assert words(batch) is not words(batch, "datatrove")


@given(texts=TEXTS)
@settings(max_examples=60, deadline=None)
def test_char_counts_are_code_points(texts: list[str]) -> None:
    assert char_counts(TextBatch.of(texts)).tolist() == [len(t) for t in texts]
