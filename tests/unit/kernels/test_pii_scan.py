"""Candidates for personal data equal those of a plain reading of the text, character by character."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.kernels.pii_scan import AT_SIGN, IPV4, IPV6, PHONE, pii_candidates
from curation.kernels.text_batch import TextBatch
from tests.unit.kernels.texts import HARD, real_texts

WORD = r"[0-9A-Za-z_\u0080-\U0010ffff]"
QUAD = re.compile(rf"[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?!{WORD}|[.-][0-9])")
HEX = re.compile(r"[0-9a-fA-F:]*")
PHONE_RUN = re.compile(r"\+?[0-9 ().-]*")


def plain_phone_end(text: str, i: int) -> int:
    end = j = i
    digits = separators = 0
    while j < len(text):
        if text[j] in "0123456789":
            digits, separators, end = digits + 1, 0, j + 1
        elif text[j] in " -.()" or (text[j] == "+" and j == i):
            separators += 1
            if separators > 2:
                break
        else:
            break
        j += 1
    followed = end < len(text) and re.match(WORD, text[end])
    return end if 7 <= digits <= 15 and not followed else i


def plain_hex_end(text: str, i: int) -> int:
    match = HEX.match(text, i)
    assert match is not None
    end = match.end()
    followed = end < len(text) and re.match(WORD, text[end])
    return end if match[0].count(":") >= 2 and not followed else i


def plain(text: str) -> list[tuple[int, int, int]]:
    """(start, end, kind) in code points."""
    found, i = [], 0
    while i < len(text):
        char, before = text[i], text[i - 1] if i else " "
        kind, end = -1, i
        is_digit = char in "0123456789"
        if char == "@":
            if i and before.isascii() and re.match(WORD, text[i + 1 : i + 2]):
                kind, end = AT_SIGN, i + 1
        elif (is_digit or char in "+(") and not re.match(WORD, before):
            joined = before in ".-/:="
            if is_digit and not joined:
                quad = QUAD.match(text, i)
                kind, end = (IPV4, quad.end()) if quad else (IPV4, i)
            if end == i and is_digit and before != ":":
                kind, end = IPV6, plain_hex_end(text, i)
            if end == i and not joined and before not in "$#+":
                kind, end = PHONE, plain_phone_end(text, i)
            if end == i:
                kind = -1
        if kind >= 0:
            found.append((i, end, kind))
            i = end if kind != PHONE or is_digit else i + 1
        else:
            i += 1
    return found


def check(texts: list[str]) -> None:
    candidates = pii_candidates(TextBatch.of(texts))
    got = [
        (int(d), int(c), int(c + e - s), int(k))
        for d, s, e, c, k in zip(
            candidates.documents,
            candidates.starts,
            candidates.ends,
            candidates.chars,
            candidates.kinds,
            strict=True,
        )
    ]
    assert got == [(d, a, b, k) for d, text in enumerate(texts) for a, b, k in plain(text)]


def test_candidates_of_hard_and_real_texts_equal_plain_python() -> None:
    check(HARD + real_texts())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("12380.:-+() @aFgé$#☕\n/_"), max_size=40), min_size=1, max_size=4))
def test_candidates_of_any_text_equal_plain_python(texts: list[str]) -> None:
    check(texts)
