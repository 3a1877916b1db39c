"""The documents of the sample corpus: natural ones, and what is planted among them on purpose.

In: the grammar. Out: `Row`s, each with the truth about it, for `examples/make_sample_corpus.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sample_grammar import ENGLISH, LANGUAGES, PLANTS, Dice, Writer, english, foreign, paragraphs

SEED = 20
WORD = re.compile(r"\w+")
NATURAL_WEB, NATURAL_FORUM, NATURAL_HTML = 1000, 700, 48  # English documents
NEAR_LEVELS = (0.95, 0.92, 0.88, 0.86)  # aimed-at Jaccard of edited copies: all at or above 0.85
NEAR_COPIES = 40  # of each level
EXACT_COPIES = 150
HARD_NEGATIVES = 40
JUNK_OF_EACH_KIND = 30
PII_DOCUMENTS = 60
TOXIC = {"toxic_use": 60, "toxic_single": 30}
MENTIONS = {"explanation": 40, "quotation": 30, "counter_speech": 30, "reclaimed": 20, "homonym": 40}
# Domains and addresses reserved for documentation (RFC 2606, RFC 5737), numbers reserved for fiction (555-01xx),
# and public resolvers, which belong to nobody's home.
DOCUMENTATION_IPS = ("192.0.2.{}", "198.51.100.{}", "203.0.113.{}")
PUBLIC_IPS = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "9.9.9.9")


@dataclass
class Row:
    """One document and what is true about it."""

    id: str
    text: str
    kind: str
    expected: str
    lang: str = "en"
    truth: dict[str, object] = field(default_factory=dict)


def shingles(text: str) -> set[str]:
    """Word 5-grams of the lower-cased text."""
    words = WORD.findall(text.lower())
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(a: str, b: str) -> float:
    """Exact Jaccard similarity of the word 5-grams of two texts, in [0, 1]."""
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def natural() -> Iterator[Row]:
    """English documents that every arm without a language or style rule should keep, and other languages."""
    for i in range(NATURAL_WEB):
        dice = Dice(SEED, "web", i)
        yield Row(f"web-{i:04}", english(dice, dice.between(6, 15)), "natural", "keep")
    for i in range(NATURAL_FORUM):
        dice = Dice(SEED, "forum", i)
        yield Row(f"forum-{i:04}", english(dice, dice.between(5, 11), "forum"), "natural", "keep")
    for language, count in LANGUAGES.items():
        for i in range(count):
            dice = Dice(SEED, language, i)
            text = foreign(language, dice, dice.between(6, 9))
            yield Row(f"{language}-{i:04}", text, "other_language", "other_language", language)


def duplicates(originals: list[Row]) -> Iterator[Row]:
    """Exact copies, edited copies at known similarities, and pairs that only share some paragraphs."""
    long_enough = [i for i, row in enumerate(originals) if len(WORD.findall(row.text)) >= 60]
    chosen = iter(Dice(SEED, "duplicates").shuffled([str(i) for i in long_enough]))
    for i in range(EXACT_COPIES):
        of = originals[int(next(chosen))]
        truth: dict[str, object] = {"of": of.id, "jaccard": 1.0}
        yield Row(f"copy-{i:04}", of.text, "exact_dup", "keep_one_of_cluster", of.lang, truth)
    for level in NEAR_LEVELS:
        for i in range(NEAR_COPIES):
            of = originals[int(next(chosen))]
            text = edited(of.text, level, Dice(SEED, "near", level, i))
            truth = {"of": of.id, "jaccard": round(jaccard(of.text, text), 6)}
            yield Row(f"near-{round(level * 100)}-{i:04}", text, "near_dup", "keep_one_of_cluster", of.lang, truth)
    for i in range(HARD_NEGATIVES):
        of = originals[int(next(chosen))]
        dice = Dice(SEED, "hard", i)
        words = of.text.split(" ")
        text = " ".join(words[: len(words) // 2]) + "\n\n" + english(dice, max(2, len(words) // 32))
        truth = {"of": of.id, "jaccard": round(jaccard(of.text, text), 6)}
        yield Row(f"hard-{i:04}", text, "hard_negative", "keep", of.lang, truth)


def edited(text: str, level: float, dice: Dice) -> str:
    """`text` with single words replaced until five more places in a row would take its Jaccard below `level`."""
    best, misses = text.split(" "), 0
    for place in dice.shuffled([str(i) for i in range(len(best))]):
        trial = [*best]
        trial[int(place)] = dice.pick(("certainly", "indeed", "quietly", "meanwhile", "roughly", "again"))
        if jaccard(text, " ".join(trial)) >= level:  # a word near an end costs fewer 5-grams than one in the middle
            best, misses = trial, 0
        else:
            misses += 1
        if misses >= 5 and best != text.split(" "):
            break
    return " ".join(best)


def junk() -> Iterator[Row]:
    """Boilerplate and noise of eight kinds."""
    for i in range(JUNK_OF_EACH_KIND):
        dice = Dice(SEED, "junk", i)
        plants = Writer(PLANTS, dice)
        menu = "\n".join(plants.draw("menu") for _ in range(dice.between(12, 20)))
        keywords = " ".join(f"{plants.draw('keywords')} {dice.pick(ENGLISH['places'])}" for _ in range(60))
        line = english(dice, 1)
        lines = [line] * dice.between(12, 30) + [f"Page {dice.between(2, 99)} of {dice.between(100, 999)}"]
        lorem = " ".join(plants.draw("lorem") for _ in range(dice.between(90, 140)))
        scripts = "\n".join(plants.fill(plants.draw("scripts")) for _ in range(8))
        symbols = "".join(dice.pick("#@%&*=~^|<>/\\{}[]+-_$ 0123456789\n") for _ in range(600))
        rows = [" | ".join(str(dice.between(100, 99_999)) for _ in range(6)) for _ in range(20)]
        kinds = {
            "junk_menu": menu,
            "junk_keywords": keywords,
            "junk_repeated_lines": "\n".join(lines),
            "junk_lorem": f"{lorem[:1].upper()}{lorem[1:]}.",
            "junk_script": scripts,
            "junk_symbols": f"{i} {symbols}",
            "junk_table": "\n".join(rows),
            "junk_short": f"{plants.draw('short')} {dice.between(1, 999)}",
        }
        for kind, text in kinds.items():
            yield Row(f"{kind.replace('_', '-')}-{i:04}", text, kind, "drop")


def personal() -> Iterator[Row]:
    """Documents with an e-mail address, an IP address and a telephone number; `mask` lists what must be masked."""
    for i in range(PII_DOCUMENTS):
        dice = Dice(SEED, "pii", i)
        mail = f"{dice.pick(('agnes', 'tomas', 'mina', 'gwen'))}.{dice.between(10, 99)}@example.com"
        phone = dice.pick(("(212) 555-01{:02}", "+1 415-555-01{:02}", "646-555-01{:02}")).format(dice.below(100))
        public, reserved = dice.pick(PUBLIC_IPS), dice.pick(DOCUMENTATION_IPS).format(dice.between(1, 254))
        body = english(dice, dice.between(6, 10))
        contact = (
            f"Questions about this page go to {mail} or to {phone} in the afternoon. "
            f"The server that answered the last request from here was {public}, while the manual uses {reserved}."
        )
        truth: dict[str, object] = {"mask": [mail, phone, public], "leave": [reserved]}
        yield Row(f"pii-{i:04}", f"{body}\n\n{contact}", "pii", "redact", truth=truth)


def contaminated() -> Iterator[Row]:
    """Natural documents into which one item of the sample evaluation set was pasted word for word."""
    for i, item in enumerate(PLANTS["eval"] * 2):
        dice = Dice(SEED, "contaminated", i)
        before, after = english(dice, 5), english(dice, 4)
        truth: dict[str, object] = {"item": f"eval-{i % len(PLANTS['eval']):02}"}
        yield Row(f"leak-{i:04}", f"{before}\n\n{item}\n\n{after}", "contamination", "decontaminate", truth=truth)


def sensitive() -> Iterator[Row]:
    """Hostile uses of a few terms, and the same terms explained, quoted, answered, reclaimed, or meant otherwise."""
    for kind, count in TOXIC.items():
        for i in range(count):
            dice = Dice(SEED, kind, i)
            writer = Writer({**ENGLISH, **PLANTS}, dice, dice.shuffled(("health", "music", "software"))[:1])
            hostile = writer.sentences(8 if kind == "toxic_use" else 1, "use")
            calm = writer.sentences(2 if kind == "toxic_use" else 8, "forum")
            text = paragraphs(dice.shuffled(hostile + calm), dice)
            expected = "drop" if kind == "toxic_use" else "redact_or_drop"
            yield Row(f"{kind.replace('_', '-')}-{i:04}", text, kind, expected, truth={"hostile": hostile})
    for kind, count in MENTIONS.items():
        for i in range(count):
            dice = Dice(SEED, kind, i)
            writer = Writer({**ENGLISH, **PLANTS}, dice, dice.shuffled(("history", "wildlife", "health"))[:1])
            style = "frames" if kind in {"explanation", "quotation", "homonym"} else "forum"
            mentions = writer.sentences(2, kind)
            text = paragraphs(dice.shuffled(mentions + writer.sentences(7, style)), dice)
            yield Row(f"{kind.replace('_', '-')}-{i:04}", text, kind, "keep", truth={"mentions": mentions})


def pages() -> Iterator[Row]:
    """The articles of the HTML pages in the WARC file."""
    for i in range(NATURAL_HTML):
        dice = Dice(SEED, "page", i)
        yield Row(f"page-{i:04}", english(dice, dice.between(8, 14)), "natural", "keep")
