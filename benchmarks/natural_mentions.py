"""Natural rows that hold a demeaning term, with their gold: what `benchmarks.use_mention` measures.

In: the labelled sets. Out: one `Part` a source: gold, label and every system's score of each row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems import DRAW_SEED, F64, SPLIT_SEED, Added, Systems, seen_sets
from classifiers.evaluate import OperatingPoint, operating_point
from classifiers.labelled import Row, dotted, read_rows
from curation.filters.context import ContextSettings
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import unit_hash

DEMEANING, INSULTS = ("slur", "hate_ideology"), ("insult",)
SYSTEMS = ("blocklist_any", "cascade", "max_use", "document_use", "curated")
BOUNDS = ContextSettings()
OWN = {"blocklist_any": 1.0, "cascade": 0.5, "max_use": BOUNDS.max_use, "document_use": BOUNDS.max_document_use,
       "curated": 0.0}  # fmt: skip
USE, MENTION, APART = 1.0, 0.0, -1.0


@dataclass(frozen=True)
class Natural:
    """A set, which of its labels are use and mention, and which are measured apart (neither)."""

    path: str
    use: tuple[str, ...] = ()
    mention: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    field: str = "label"

    @property
    def name(self) -> str:
        return self.path.split("/")[1]

    def gold(self, label: str) -> float | None:
        """USE, MENTION or APART; None for labels that say neither."""
        named = ((self.use, USE), (self.mention, MENTION), (self.apart, APART))
        return next((value for labels, value in named if label in labels), None)


NATURAL = (
    Natural("toxicity/gab_hate_corpus", ("toxic",), ("non_toxic",)),
    Natural("toxicity/stormfront", ("toxic",), ("non_toxic",), ("relation",)),
    Natural("toxicity/hatexplain", ("hatespeech",), ("normal",), ("offensive",), "labels.class"),
    Natural("toxicity/cad", ("toxic",), ("non_toxic",)),
    Natural("toxicity/implicit_hate", ("implicit_hate", "explicit_hate"), ("not_hate",), (), "labels.class"),
    Natural("toxicity/davidson", ("hate",), ("neither",), ("offensive",), "labels.class"),
    Natural("toxicity/hateval", ("toxic",), ("non_toxic",)),
    Natural("counterspeech/yu_2022", ("hate",), ("counterspeech", "other")),
    Natural("counterspeech/gpt4o_labels", ("hate",), ("counterspeech", "other")),
    Natural("counterspeech/dynacounter", (), ("counterspeech",), ("not_counterspeech",)),
    Natural("counterspeech/turing_footballers", (), ("counterspeech",), ("not_counterspeech",)),
    Natural("counterspeech/qian_interventions", (), ("intervention",)),
)


@dataclass
class Part:
    """Rows of one source: gold, label and every system's score."""

    name: str
    seen: bool
    gold: F64
    label: list[str]
    scores: dict[str, F64] = field(default_factory=dict)

    def judged(self, system: str) -> tuple[F64, F64]:
        """Scores and gold of the rows that are use or mention and that the system has a score of."""
        known = (self.gold != APART) & ~np.isnan(self.scores[system])
        return self.scores[system][known], self.gold[known]

    def called(self, system: str) -> OperatingPoint:
        """What the system's own verdict does here."""
        return operating_point(*self.judged(system), threshold(system))


def threshold(system: str) -> float:
    """The score from which a system's own verdict is use; 0.5 for scores made elsewhere."""
    return OWN.get(system, 0.5)


class Terms:
    """Which texts hold a term of some categories; guard phrases do not count."""

    def __init__(self) -> None:
        self.lexicon = load_lexicon("english")
        self._matcher = Matcher(self.lexicon)
        self._category = np.array([entry.category for entry in self.lexicon.entries])

    def entries(self, texts: Sequence[str], categories: tuple[str, ...]) -> list[set[int]]:
        """The lexicon entries found in each text."""
        hits = self._matcher.find(TextBatch.of(list(texts)))
        found: list[set[int]] = [set() for _ in texts]
        for at in np.flatnonzero(np.isin(self._category[hits.entry], categories) & ~hits.guarded).tolist():
            found[int(hits.row[at])].add(int(hits.entry[at]))
        return found


def load_parts(
    systems: Systems, added: Added, options: argparse.Namespace, terms: Terms
) -> tuple[list[Part], list[Part]]:
    """The sources with their demeaning rows, and again with the rows that hold insults only."""
    seen = seen_sets(systems.settings)
    parts: tuple[list[Part], list[Part]] = ([], [])
    for source in NATURAL:
        rows = [
            (row, source.gold(str(dotted(row, source.field)))) for row in read_rows(set_path(options.data, source.path))
        ]
        rows = [(row, gold) for row, gold in rows if gold is not None and row["text"].strip()]
        if source.name in seen and options.rows == "held-out":
            rows = [(row, gold) for row, gold in rows if _held_out(source, row)]
        texts = [row["text"] for row, _ in rows]
        demeaning, insulting = terms.entries(texts, DEMEANING), terms.entries(texts, INSULTS)
        for into, chosen in (
            (parts[0], [at for at in range(len(rows)) if demeaning[at]]),
            (parts[1], [at for at in range(len(rows)) if insulting[at] and not demeaning[at]]),
        ):
            kept = drawn([(rows[at][0], rows[at][1]) for at in chosen], source, options.limit)
            part = Part(source.name, source.name in seen, np.array([gold for _, gold in kept], np.float64),
                        [str(dotted(row, source.field)) for row, _ in kept])  # fmt: skip
            if kept:
                part.scores = systems.score([row["text"] for row, _ in kept])
                part.scores |= added.columns(source.name, [row["id"] for row, _ in kept])
                into.append(part)
    return parts


def _held_out(source: Natural, row: dict[str, Any]) -> bool:
    """Whether `fit` keeps the row for its test tenth (`classifiers.labelled.Row.split`)."""
    return Row(source.name, str(row["id"]), "", False, str(row["id"])).split(SPLIT_SEED) == "test"


def drawn(rows: list[tuple[dict[str, Any], Any]], source: Natural, limit: int) -> list[tuple[dict[str, Any], Any]]:
    """At most `limit` rows of each label, by hash of set and id."""
    counted: dict[str, int] = {}
    kept = []
    for row, gold in sorted(rows, key=lambda pair: unit_hash(f"{source.name}/{pair[0]['id']}", DRAW_SEED)):
        label = str(dotted(row, source.field))
        counted[label] = counted.get(label, 0) + 1
        if not limit or counted[label] <= limit:
            kept.append((row, gold))
    return kept


def set_path(data: Path, name: str) -> Path:
    return data / f"{name}.jsonl.zst"
