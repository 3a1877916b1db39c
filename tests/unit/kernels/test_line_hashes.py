"""The compiled line hashes equal plain Python, on every script and every kind of white space."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.kernels.line_hashes import line_hashes
from curation.kernels.text_batch import TextBatch
from tests.unit.kernels.line_twin import plain_hash, plain_lines
from tests.unit.kernels.texts import HARD, TEXTS, real_texts

Found = tuple[int, int, int, int, int]


def compiled(texts: list[str], min_chars: int) -> list[Found]:
    found = line_hashes(TextBatch.of(texts), min_chars)
    columns = (found.hashes, found.rows, found.starts, found.ends, found.chars)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def plain(texts: list[str], min_chars: int) -> list[Found]:
    return [
        (plain_hash(key), row, start, end, len(key))
        for row, text in enumerate(texts)
        for key, start, end in plain_lines(text, min_chars)
    ]


@pytest.mark.parametrize("min_chars", [1, 3, 30])
def test_hard_texts_give_the_lines_of_plain_python(min_chars: int) -> None:
    assert compiled(HARD, min_chars) == plain(HARD, min_chars)


@given(TEXTS, st.integers(0, 12))
def test_any_texts_give_the_lines_of_plain_python(texts: list[str], min_chars: int) -> None:
    assert compiled(texts, min_chars) == plain(texts, max(1, min_chars))


def test_real_texts_give_the_lines_of_plain_python() -> None:
    texts = real_texts()
    assert compiled(texts, 30) == plain(texts, 30)


def hashes(*texts: str) -> list[int]:
    return line_hashes(TextBatch.of(list(texts)), 1).hashes.tolist()


def test_case_and_white_space_do_not_tell_lines_apart() -> None:
    same = ("Read our Terms", "  read OUR terms", "read\u00a0our \t terms\r", "READ OUR TERMS \u2003")
    assert len(set(hashes(*same))) == 1
    assert hashes("ÉTÉ À LA МОСКВА") == hashes("été à la москва")


def test_what_a_line_says_tells_lines_apart() -> None:
    different = (
        "read our terms",
        "read ourterms",
        "read our term",
        "read our terms.",
        "read our térms",
        "our read terms",
    )
    assert len(set(hashes(*different))) == len(different)


def test_a_line_takes_its_break_and_the_blank_lines_after_it_and_a_short_line_takes_nothing() -> None:
    text = "\n the first long line\n \n\nno\n\nthe second long line\n\n"
    found = line_hashes(TextBatch.of([text]), 5)
    cut = [text[a:b] for a, b in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]
    assert cut == [" the first long line\n \n\n", "the second long line\n\n"]


def test_a_slice_of_an_array_gives_the_lines_of_its_own_texts() -> None:
    texts = ["one line\nx", "日本語 is two\nthree", "four"]
    sliced = TextBatch(TextBatch.of(texts).array.slice(1))
    whole = line_hashes(TextBatch.of(texts[1:]), 1)
    found = line_hashes(sliced, 1)
    assert (found.hashes.tolist(), found.rows.tolist(), found.starts.tolist(), found.ends.tolist()) == (
        whole.hashes.tolist(),
        whole.rows.tolist(),
        whole.starts.tolist(),
        whole.ends.tolist(),
    )


def test_no_texts_have_no_lines() -> None:
    assert (hashes(), hashes(""), hashes("", "\n \n")) == ([], [], [])
