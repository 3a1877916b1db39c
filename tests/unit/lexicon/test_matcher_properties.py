"""Offsets under folding: whatever a disguise adds, the span of a hit is the disguised term, in code points."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher

MATCHER = Matcher(load_lexicon("english"))
# Terms of one word that demean and nothing else: those may stand in any disguise.
TERMS = sorted(
    entry.term for entry in MATCHER.lexicon.entries
    if entry.severity == 3 and entry.term.isascii() and entry.term.isalpha() and len(entry.term) >= 5
)  # fmt: skip
SIGNS = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7"}
LOOKS = dict(zip("aeoicpxy", "аеоісрху", strict=True))  # Cyrillic
FULL_WIDTH = {chr(97 + k): chr(0xFF41 + k) for k in range(26)}
HIDDEN = (".", "-", "_", "\u00ad", "\u200b", "\u0336")
PIECES = ("", " ", "😀 ", "é, ", "日本 ", "(", "\n\n", "İ ", "“", "a word ", "\U0001d4d0 ")
LETTERS = st.sampled_from(["plain", "sign", "look", "wide", "upper", "stretch"])


@st.composite
def disguised(draw: st.DrawFn) -> tuple[str, str]:
    """(term, the term in disguise): at least as many letters as signs, and no sign or separator at either end."""
    term = draw(st.sampled_from(TERMS))
    separator = draw(st.sampled_from(("", "", *HIDDEN)))
    signs = 0
    spelled = []
    for at, letter in enumerate(term):
        how = draw(LETTERS)
        if how == "sign" and letter in SIGNS and 0 < at < len(term) - 1 and signs < len(term) // 2:
            spelled.append(draw(st.sampled_from(SIGNS[letter])))
            signs += 1
        elif how == "look" and letter in LOOKS:
            spelled.append(LOOKS[letter])
        elif how == "wide":
            spelled.append(FULL_WIDTH[letter])
        elif how == "stretch":
            spelled.append(letter * draw(st.integers(3, 5)))
        else:
            spelled.append(letter.upper() if how == "upper" else letter)
    text = separator.join(spelled)
    assume(not text.lower().startswith("www."))  # read as a link, which it might be
    return term, text


@given(disguised(), st.lists(st.sampled_from(PIECES)), st.sampled_from(("", " ", "!", "” 😀", "\n", ", so")))
def test_the_span_of_a_disguised_term_is_the_disguised_term(
    case: tuple[str, str], before: list[str], after: str
) -> None:
    term, spelled = case
    start = "".join(before)
    start += " " if start and not start[-1].isspace() and start[-1] not in "(“" else ""
    hits = MATCHER.find(TextBatch.of([start + spelled + after]))

    found = [
        (int(begin), int(end), MATCHER.lexicon.entries[owner].term)
        for begin, end, owner in zip(hits.start, hits.end, hits.entry, strict=True)
    ]
    assert found == [(len(start), len(start) + len(spelled), term)]


def folded(text: str) -> list[str]:
    """Every reading of `text`, by a slow fold that shares no code with the matcher."""
    back = {look: letter for letter, look in LOOKS.items()}
    readings = [""]
    for char in unicodedata.normalize("NFKC", text).lower():
        base = unicodedata.normalize("NFD", char)[0]
        options = {back.get(base, base)} | {letter for letter, signs in SIGNS.items() if base in signs}
        if base == "1":
            options.add("l")
        readings = [reading + option for reading in readings for option in options]
    return readings


# Whole terms, their pieces, signs and noise: about half of the texts drawn from these hold a hit.
WORDS = ("fuck", "fag", "f@got", "coon", "sh1t", "sand nigger", "spick and span", "k1k3", "n***a", "ass-hole", "retard")
SCRAPS = ("got", "s", "3", "a", "$", "!", ".", "-", "_", "*", "\n", "😀", "ｇ", "е", "é", "\u0336", "日", "://", "www.")
TEXTS = st.lists(st.sampled_from((*WORDS, *WORDS, *SCRAPS, *[" "] * 30)), max_size=25).map("".join)


@settings(max_examples=300)
@given(TEXTS | st.text(max_size=60))
def test_every_hit_in_any_text_folds_to_a_form_of_its_term(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    hits = MATCHER.find(TextBatch.of([text]))

    last = 0
    for start, end, owner, guarded in zip(hits.start, hits.end, hits.entry, hits.guarded, strict=True):
        assert last <= start < end <= len(text)
        last = end
        entry = MATCHER.lexicon.entries[owner]
        forms = {re.sub(r"[\s_-]+", "", form) for form in (entry.guard_phrases if guarded else entry.forms())}
        # A letter may be stretched, a `*` is any letter, separators and marks count for nothing.
        patterns = [
            re.compile("".join(f"(?:{re.escape(char)}|[*#%])(?:{re.escape(char)})*" for char in form)) for form in forms
        ]
        readings = [
            "".join(char for char in reading if char.isalnum() or char in "*#%'&")
            for reading in folded(text[start:end])
        ]
        assert any(pattern.fullmatch(reading) for pattern in patterns for reading in readings), text[start:end]
