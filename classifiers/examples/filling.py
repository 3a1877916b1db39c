"""What a frame is filled with: the terms it may take, the group they are aimed at, names, places, a body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.examples.frames import Frame, People, load_wordbook
from curation.lexicon.entries import Entry, inflections

SLOT = re.compile(r"\{(\w+)\}|\|([^|\n]+)\|")
LABELLED = re.compile(r"t\d?s?")
QUOTED_END = re.compile(r"""\.(["”])(?=[.,]| [a-z])""")  # a quoted sentence inside a sentence loses its full stop
OTHER_TERMS = 5  # {t2} … {t6}
GROUP_SLOT = re.compile(r"\{(g|gs|ga)\}", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """A stretch of text: plain, a term, or a term that the role speaks of."""

    text: str
    term: bool = False
    labelled: bool = False


Noun = tuple[Entry, str, str]  # entry, singular, plural


class Stock:
    """The lexicon's terms by what a frame can do with them, and the wordbook."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.wordbook = load_wordbook()
        self._people = {people.target: people for people in self.wordbook.people}
        self._term = {
            form: entry.term for entry in reversed(entries) for form in (*entry.guard_phrases, *entry.forms())
        }
        nouns = [noun for entry in entries for noun in self._nouns(entry)]
        profane = [(e, form, form) for e in entries if e.category == "profanity" for form in (e.term, *e.variants)]
        persons = [n for n in nouns if n[0].category == "slur" and n[0].severity >= 1]
        insults = [n for n in nouns if n[0].category == "insult" and n[0].severity >= 1]
        ideology = [entry for entry in entries if entry.category == "hate_ideology"]
        slogans = [(e, form, form) for e in ideology for form in self.wordbook.slogans if form in e.forms()]
        others = [n for n in nouns if n[0] in ideology and n[0].term in self.wordbook.person_forms]
        by_term = {entry.term: entry for entry in entries}
        self._nouns_by_kind: dict[str, list[Noun]] = {
            "person": persons,
            "insult": insults,
            "ideology": slogans,
            "profanity": profane,
            "word": [*persons, *insults, *others],
            "reclaim": [
                (by_term[term], one, many)
                for term, forms in self.wordbook.reclaimed.items()
                if term in by_term
                for one, many in forms
                if {one, many} <= set(by_term[term].forms())
            ],
        }  # fmt: skip

    def _nouns(self, entry: Entry) -> list[Noun]:
        if entry.term in self.wordbook.not_persons:
            return []
        forms = self.wordbook.person_forms.get(entry.term)
        if forms is None:
            forms = ((entry.term, (inflections(entry.term, "n") or (entry.term,))[0]),)
        return [(entry, one, many) for one, many in forms if {one, many} <= set(entry.forms())]

    def term_of(self, form: str) -> str:
        """The lexicon entry of a written form, or an empty string."""
        return self._term.get(form.lower().replace("-", " "), "")

    def nouns(self, kind: str, with_target: bool) -> list[Noun]:
        """Terms of a kind; `with_target`: those alone whose target has names."""
        nouns = self._nouns_by_kind[kind]
        return [noun for noun in nouns if noun[0].target in self._people] if with_target else nouns

    def draw(self, frame: Frame, rng: np.random.Generator) -> dict[str, str]:
        """A value for every slot; drawn whole, so that all members of a frame are filled alike."""
        book = self.wordbook
        texts = " ".join(member.text for member in frame.members)
        filling: dict[str, str] = {"body": _pick(book.bodies, rng), "gbody": _pick(book.group_bodies, rng)}
        people: People | None = None
        if frame.terms != "none":
            needs_group = bool(GROUP_SLOT.search(texts) or "{body}" in texts)
            nouns = self.nouns(frame.terms, needs_group)
            entry, one, many = nouns[int(rng.integers(len(nouns)))]
            filling |= {"term": entry.term, "t": one, "x": one, "ts": many, "xs": many}
            people = self._people.get(entry.target or "")
            for number, chosen in enumerate(rng.choice(len(nouns), OTHER_TERMS, replace=len(nouns) < OTHER_TERMS), 2):
                filling |= {f"t{number}": nouns[chosen][1], f"t{number}s": nouns[chosen][2]}
        if people is None:
            fitting = [p for p in book.people if not frame.groups or set(frame.groups) & set(p.kinds)]
            fitting = [p for p in fitting if p.kinds] or fitting
            people = fitting[int(rng.integers(len(fitting)))]
        filling |= {"g": _pick(people.many, rng), "gs": _pick(people.one, rng), "ga": people.adjective}
        for name, values in book.slots.items():
            first, second = rng.choice(len(values), 2, replace=False)
            filling |= {name: values[first], f"{name}2": values[second]}
        return filling


def render(text: str, filling: dict[str, str]) -> list[Piece]:
    """The text with its slots filled, in pieces; "a" becomes "an" where the filling asks for it.

    Raises:
        ValueError: a slot that nothing fills.
    """
    text = text.replace("{body}", filling["body"]).replace("{gbody}", filling["gbody"])
    text = QUOTED_END.sub(r"\1", text)
    pieces: list[Piece] = []
    done = 0
    for match in SLOT.finditer(text):
        before = text[done : match.start()]
        done = match.end()
        slot, literal = match.groups()
        if literal is not None:
            pieces += [Piece(before), Piece(literal, True, True)]
            continue
        value = filling.get(slot) or filling.get(slot.lower())
        if value is None:
            raise ValueError(f"no filling for slot `{slot}` in: {text}")
        if slot[0].isupper():
            value = value[0].upper() + value[1:]
        if value[0] in "aeioAEIO" and re.search(r"(^|[\s\"“(>*])[Aa] $", before):
            before = before[:-1] + "n "
        name = slot.lower()
        pieces += [Piece(before), Piece(value, name in {"x", "xs"} or _labelled(name), _labelled(name))]
    return [piece for piece in (*pieces, Piece(text[done:])) if piece.text]


def _labelled(slot: str) -> bool:
    return LABELLED.fullmatch(slot) is not None


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]
