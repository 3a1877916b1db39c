"""C4's and RefinedWeb's line verdicts equal plain Python with regular expressions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.kernels import unicode_tables
from curation.kernels.line_rules import (
    ABBREVIATIONS,
    C4_LABELS,
    COUNTED_THINGS,
    REFINEDWEB_LABELS,
    c4_lines,
    lines_with_phrase_at,
    refinedweb_lines,
)
from curation.kernels.lines import lines
from curation.kernels.text_batch import TextBatch
from tests.unit.kernels.texts import HARD, TEXTS, real_texts

CITATION = re.compile(r"\[[0-9]*\]|\[edit\]|\[citation needed\]")
COUNTED = "|".join(COUNTED_THINGS.split())
COUNTER = re.compile(rf"\W*[0-9][0-9,.]*[kmb]?[ \t]+(?:{COUNTED})(?![a-zA-Z])\W*", re.IGNORECASE)
PIECES = st.lists(
    st.sampled_from(
        [
            "Mr. Smith",
            " went",
            " home.",
            " e.g. this",
            '" ',
            " [1]",
            "[edit]",
            "[citation needed]",
            "[12",
            "...",
            "? ",
            "!",
            "\n",
            " one two three four",
            " É",
            " é",
            "12 likes",
            "3.4K views",
            "1,000 Comments!",
            "12likes",
            "K",
            " 2024 ",
            "SIGN-IN",
            "read more...",
            "x" * 1001,
            "”",
            " J. Doe",
            ") ",
            "日本。",
        ]
    ),
    max_size=14,
).map("".join)
EXAMPLES = st.lists(st.one_of(PIECES, st.sampled_from(HARD)), min_size=1, max_size=4)


def bits(char: str) -> int:
    return int(unicode_tables.classes()[ord(char)])


def sentence_count(line: str) -> int:
    count, is_open = 0, False
    for i in range(len(line)):
        if bits(line[i]) & unicode_tables.WORD:
            is_open = True
        elif is_open and line[i] in ".?!" and ends_here(line, i):
            count, is_open = count + 1, False
    return count + is_open


def ends_here(line: str, i: int) -> bool:
    rest = re.sub(r"""^["')\]]*[”’]?""", "", line[i + 1 :])
    if not rest:
        return True
    if not rest[0].isspace():
        return False
    following = rest.lstrip()[:1]
    lower = unicode_tables.lower()
    is_lower = (
        bool(following) and bits(following) & (unicode_tables.ALPHA | unicode_tables.UPPER) == unicode_tables.ALPHA
    )
    if is_lower and lower[ord(following)] == ord(following) and ord(following) < 0x250:
        return False
    if line[i] != ".":
        return True
    before = re.search(r"[A-Za-z]*$", line[:i])
    assert before is not None
    return len(before[0]) != 1 and before[0].lower() not in ABBREVIATIONS.split()


def plain_c4(text: str, end_marks: str | None, min_words: int) -> list[tuple[str, int]]:
    out = []
    for raw in text.splitlines():
        line = raw.strip()
        bare = CITATION.sub("", line)
        label = ""
        if any(len(word) > 1000 for word in line.split()):
            label = "long_word"
        elif end_marks is not None and (not bare.endswith(tuple(end_marks)) or bare.endswith("...")):
            label = "no_end_mark"
        elif len(bare.split()) < min_words:
            label = "too_few_words"
        out.append((label, sentence_count(bare)))
    return out


def check_c4(texts: list[str]) -> None:
    batch = TextBatch.of(texts)
    for end_marks, min_words in (('.?!"', 5), (None, 3)):
        found = c4_lines(batch, lines(batch, "unicode"), end_marks, min_words, 1000, citations=True)
        expected = [line for text in texts for line in plain_c4(text, end_marks, min_words)]
        assert [(C4_LABELS[a], int(b)) for a, b in zip(found.labels, found.sentences, strict=True)] == expected
        data = bytes(batch.data)
        marks = [data[a:b].decode() for a, b in zip(found.citation_starts, found.citation_ends, strict=True)]
        assert marks == [m for text in texts for line in text.splitlines() for m in CITATION.findall(line)]


def plain_refinedweb(text: str) -> list[str]:
    out = []
    for raw in text.split("\n"):
        line = raw.strip()
        label = ""
        if line:
            n = len(line.split())
            boilerplate = "items in cart" in line.lower() or line.lower().endswith("read more...")
            boilerplate |= line.lower().startswith("sign-in")
            if sum(bool(bits(c) & unicode_tables.UPPER) for c in line) / len(line) > 0.5:
                label = "uppercase"
            elif sum(bool(bits(c) & unicode_tables.DIGIT) for c in line) / len(line) > 0.999999:
                label = "only_numbers"
            elif n <= 8 and COUNTER.fullmatch(line):
                label = "counter"
            elif n < 2:
                label = "one_word"
            elif boilerplate and n <= 10:
                label = "boilerplate"
        out.append(label)
    return out


def check_refinedweb(texts: list[str]) -> None:
    batch = TextBatch.of(texts)
    table = lines(batch)
    phrases = lines_with_phrase_at(batch, table, ["sign-in"], ["read more..."]).astype(np.uint64)
    labels = refinedweb_lines(batch, table, 0.5, 0.999999, 2, phrases, 10)
    assert [REFINEDWEB_LABELS[k] for k in labels] == [x for text in texts for x in plain_refinedweb(text)]


def test_c4_lines_of_hard_and_real_texts_equal_plain_python() -> None:
    check_c4(HARD + real_texts())


@settings(max_examples=100, deadline=None)
@given(texts=st.one_of(EXAMPLES, TEXTS))
def test_c4_lines_of_any_text_equal_plain_python(texts: list[str]) -> None:
    check_c4(texts)


def test_refinedweb_lines_of_hard_and_real_texts_equal_plain_python() -> None:
    check_refinedweb(HARD + real_texts())


@settings(max_examples=100, deadline=None)
@given(texts=st.one_of(EXAMPLES, TEXTS))
def test_refinedweb_lines_of_any_text_equal_plain_python(texts: list[str]) -> None:
    check_refinedweb(texts)


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("Dr. Smith met J. R. Doe at 3.15 p.m. and left. He was late!", 2),
        ('"Really?" she asked. "Yes."', 2),
        ("No end mark here", 1),
        ("Wait... what?! Oh.", 2),
        ("- * -", 0),
    ],
)
def test_sentences_are_counted_as_a_reader_would(line: str, sentences: int) -> None:
    batch = TextBatch.of([line])
    assert c4_lines(batch, lines(batch, "unicode"), None, 0, 1000, citations=True).sentences.tolist() == [sentences]
