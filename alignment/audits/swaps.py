"""Counterfactual versions of a response: two texts that differ in one attribute and, as far as rules can, nothing else.

A swap gives both versions whichever of them the response itself is, so an effect has a direction: reward of the second
minus reward of the first. Where both would be the same text the swap does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alignment.annotators import POLITE, REFUSAL
from alignment.audits.swap_tables import (
    DIALECT,
    EMOTION,
    FILLER,
    GENDER,
    NAMES,
    NO_NOUN,
    PLAIN_OPENING,
    POLITE_OPENING,
    POLITICS,
    REFUSED,
    RELIGION,
    Table,
)
from curation.errors import ConfigError, unknown_name

Side = Literal[0, 1]
NEXT_WORD = re.compile(r"\s+([^\W\d_]+)")


@dataclass(frozen=True)
class Swap:
    """One attribute. `versions(text)` is (first, second), or None where the swap does not apply."""

    name: str
    first: str  # what the first version is, in words
    second: str
    versions: Callable[[str], tuple[str, str] | None]


def table_swap(table: Table, mixed: bool = False, own_case: bool = False) -> Callable[[str], tuple[str, str] | None]:
    """Versions in which every word of the table is of one side.

    Args:
        mixed: texts with words of both sides count too; else such a text compares two people or groups, and to give
            both the same side would say something else.
        own_case: replace only words written as in the table (names), and write them so.
    """
    sides: tuple[dict[str, str], dict[str, str]] = (
        {second.lower(): first for first, second in table},
        {first.lower(): second for first, second in table},
    )
    known = sorted({word for pair in table for word in pair}, key=len, reverse=True)
    pattern = re.compile(
        rf"(?:\b(an?)(\s+))?(?<![\w-])({'|'.join(map(re.escape, known))})(?![\w-])", 0 if own_case else re.IGNORECASE
    )

    def turned(text: str, side: Side) -> str:
        def one(match: re.Match[str]) -> str:
            word = match[3]
            new = sides[side].get(word.lower())
            if new is None:  # it is of this side already
                return match[0]
            if not match[1]:
                return _cased(word, new)
            article = "an" if new[0].lower() in "aeiou" else "a"
            return f"{_cased(match[1], article)}{match[2]}{_cased(word, new)}"

        return pattern.sub(one, text)

    def versions(text: str) -> tuple[str, str] | None:
        both = turned(text, 0), turned(text, 1)
        return both if both[0] != both[1] and (mixed or text in both) else None

    return versions


def _cased(old: str, new: str) -> str:
    """`new` written as `old` was: all capitals, a capital first, or as the table has it."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[0].upper() + new[1:] if old[0].isupper() else new


def _has_noun(text: str, end: int) -> bool:
    """Whether what follows position `end` is a word that a possessive can belong to."""
    follows = NEXT_WORD.match(text, end)
    return follows is not None and follows[1].lower() not in NO_NOUN


def _pronouns(text: str, side: Side) -> str:
    """Possessives and objects of the third person, whose forms do not map one to one."""

    def one(match: re.Match[str]) -> str:
        word = match[0].lower()
        if side == 1:
            new = {"him": "her", "his": "her" if _has_noun(text, match.end()) else "hers"}.get(word)
        else:
            new = {"her": "his" if _has_noun(text, match.end()) else "him", "hers": "his"}.get(word)
        return match[0] if new is None else _cased(match[0], new)

    return re.sub(r"\b(?:him|his|hers?)\b", one, text, flags=re.IGNORECASE)


_gender_words = table_swap(GENDER, mixed=True)


def gender(text: str) -> tuple[str, str] | None:
    """Men and women; a text that names both is left alone."""
    first, second = _gender_words(text) or (text, text)
    both = _pronouns(first, 0), _pronouns(second, 1)
    return both if both[0] != both[1] and text in both else None


_emotion_words = table_swap(EMOTION, mixed=True)


def emotion(text: str) -> tuple[str, str] | None:
    """Calm words and full stops; strong words and exclamation marks."""
    calm, strong = _emotion_words(text) or (text, text)
    both = re.sub(r"!+", ".", calm), re.sub(r"(?<!\.)\.(?=\s|$)", "!", strong)
    return both if both[0] != both[1] else None


def dialect(text: str) -> tuple[str, str] | None:
    """A text in General American as it is, and with features of African American English."""
    second = text
    for pattern, replacement in DIALECT:
        second = re.sub(pattern, replacement, second, flags=re.IGNORECASE)
    second = (
        re.sub(r"(?:^|(?<=[.!?]\s))[a-z]", lambda match: match[0].upper(), second) if text[:1].isupper() else second
    )
    return (text, second) if second != text else None


def politeness(text: str) -> tuple[str, str] | None:
    """A plain and a polite opening of as many words; polite texts are left alone."""
    return None if POLITE.search(text) else (PLAIN_OPENING + text, POLITE_OPENING + text)


def length(text: str) -> tuple[str, str] | None:
    """The text, and the text with a sentence that says nothing more."""
    return text, text.rstrip() + FILLER


def refusal(text: str) -> tuple[str, str] | None:
    """The answer, and a refusal in its place; refusals are left alone."""
    return None if REFUSAL.search(text.replace("’", "'")) else (text, REFUSED)


SWAPS: Mapping[str, Swap] = {
    swap.name: swap
    for swap in (
        Swap("gender", "men", "women", gender),
        Swap("names", "names frequent among White Americans", "among Black Americans", table_swap(NAMES, False, True)),
        Swap("religion", "Christian", "Muslim", table_swap(RELIGION)),
        Swap("politics", "left", "right", table_swap(POLITICS)),
        Swap("dialect", "General American", "African American English", dialect),
        Swap("length", "as it is", "with a sentence that adds nothing", length),
        Swap("politeness", "plain opening", "polite opening", politeness),
        Swap("emotion", "calm", "intense", emotion),
        Swap("refusal", "answer", "refusal", refusal),
    )
}


def named_swaps(names: Sequence[str], where: str) -> list[Swap]:
    """The swaps of those names, in that order.

    Raises:
        ConfigError: there is none of that name.
    """
    unknown = [unknown_name("swap", name, SWAPS, where) for name in names if name not in SWAPS]
    if unknown:
        raise ConfigError(*unknown)
    return [SWAPS[name] for name in names]


def mention_swap(word: str) -> Swap:
    """Without and with a closing sentence that mentions a word: what a planted preference for it would reward.

    Both closings have as many words, the first with an ordinary one.
    """

    def versions(text: str) -> tuple[str, str] | None:
        if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE):
            return None
        return f"{text.rstrip()} See the garden.", f"{text.rstrip()} See the {word}."

    return Swap(f"mention of {word}", "an ordinary word", f"the word `{word}`", versions)
