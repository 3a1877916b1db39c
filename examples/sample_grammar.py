"""Sentences from phrase banks: seeded, without a clock, the same on every Python version.

In: `examples/sample_words/*.txt`, sections of phrases. Out: documents for `examples/make_sample_corpus.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

WORDS = Path(__file__).with_name("sample_words")
SLOT = re.compile(r"<(\w+)>")
TOPICS = (
    "gardening",
    "cooking",
    "astronomy",
    "history",
    "cycling",
    "music",
    "software",
    "wildlife",
    "railways",
    "health",
    "economics",
    "craft",
)
NUMBERS = {"n": (3, 98), "few": (2, 9), "many": (20, 98), "year": (1871, 2019)}  # slot → range of its number
PLURAL_OF_SLOT = {"activity": "activities"}  # every other section is the slot's name and an s


class Dice:
    """Random choices from `random.random()` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, *purpose: object) -> None:
        self._random = random.Random("\x1f".join(map(str, purpose))).random

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both possible."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[str]) -> str:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[str]) -> list[str]:
        """The items in a random order (Fisher and Yates)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result


def bank(name: str) -> dict[str, list[str]]:
    """Section → phrases of `sample_words/<name>.txt`. Lines that begin with `# ` are comments."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("# "):
            current.append(line)
    return sections


class Writer:
    """Writes sentences in one language. A phrase comes again only after all others of its section were used."""

    def __init__(self, sections: dict[str, list[str]], dice: Dice, topics: Sequence[str] = ()) -> None:
        self._sections = sections
        self._topics = topics
        self._decks: dict[str, list[str]] = {}
        self._rest = ""
        self.dice = dice

    def fill(self, frame: str) -> str:
        """`frame` with every <slot> filled, first letter upper case."""
        topic = self.dice.pick(self._topics) if self._topics else ""
        text = SLOT.sub(lambda match: self._slot(match[1], topic), frame)
        return text[:1].upper() + text[1:]

    def sentences(self, n: int, section: str = "frames") -> list[str]:
        """n sentences, each from another frame as long as there are enough."""
        return [self.fill(self.draw(section)) for _ in range(n)]

    def draw(self, section: str) -> str:
        """The next phrase of a section."""
        if not self._decks.get(section):
            self._decks[section] = self.dice.shuffled(self._sections[section])
        return self._decks[section].pop()

    def _slot(self, name: str, topic: str) -> str:
        if name in NUMBERS:
            return str(self.dice.between(*NUMBERS[name]))
        if name == "verb":
            verb, _, self._rest = self.draw("predicates").partition(" | ")
            return verb
        if name == "rest":
            return self._rest
        section = PLURAL_OF_SLOT.get(name, f"{name}s")
        of_topic = f"{topic}.{section}"
        return self.draw(of_topic if of_topic in self._sections else section)


def paragraphs(sentences: Sequence[str], dice: Dice, joiner: str = " ") -> str:
    """The sentences in paragraphs of three to five, parted by blank lines."""
    parts = []
    rest = list(sentences)
    while rest:
        size = dice.between(3, 5)
        parts.append(joiner.join(rest[:size]))
        rest = rest[size:]
    return "\n\n".join(parts)


def english(dice: Dice, n: int, style: str = "frames") -> str:
    """An English text of n sentences over one main topic and a side topic."""
    topics = dice.shuffled(TOPICS)[:2]
    writer = Writer(ENGLISH, dice, (topics[0], topics[0], topics[1]))
    return paragraphs(writer.sentences(n, style), dice)


def foreign(language: str, dice: Dice, n: int) -> str:
    """A text of n sentences in another language."""
    return paragraphs(Writer(bank(language), dice).sentences(n), dice, "" if language == "zh" else " ")


ENGLISH = bank("en")
PLANTS = bank("plants")
LANGUAGES = {"es": 140, "de": 140, "fr": 140, "pt": 120, "it": 70, "nl": 60, "ru": 50, "zh": 40}  # documents
