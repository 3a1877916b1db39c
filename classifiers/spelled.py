"""Words spelt out letter by letter, `I h a t e you`, written as words: no encoder knows them any other way.

In: a text and whether a word is known. Out: the text with such runs closed up, and where its code points have gone.
Only single blanks between single Latin letters are taken away, at least two in a row; digits, initials of two and runs
longer than any word stay.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable

LETTER = "[A-Za-zÀ-ÖØ-öø-ÿ]"
RUN = re.compile(rf"(?<![^\W_]){LETTER}(?: {LETTER}){{2,}}(?![^\W_])")
LONGEST = 24  # letters of a spelt-out word; alphabets and tables of results are longer
ALONE = frozenset("aiou")  # letters that are words, and stay apart before a word that is known: I, a, u (you), o (oh)


def close_up(text: str, known: Callable[[str], bool]) -> tuple[str, list[int]]:
    """The text without the blanks inside spelt-out words, and the places of those blanks in `text`, ascending.

    Args:
        known: whether a lower-case word is one; `i h a t e` is `i hate` because `ihate` is none and `hate` is.
    """
    gone: list[int] = []
    for run in RUN.finditer(text):
        letters = run.group()[::2].lower()
        if len(letters) <= LONGEST:
            apart = letters[0] in ALONE and not known(letters) and known(letters[1:])
            gone += range(run.start() + 1 + 2 * apart, run.end(), 2)
    if not gone:
        return text, gone
    dropped = set(gone)
    return "".join(sign for at, sign in enumerate(text) if at not in dropped), gone


def moved(at: int, gone: list[int]) -> int:
    """Where code point `at` of the text is once the blanks `gone` are taken away."""
    return at - bisect_left(gone, at)
