"""Frames on disk → typed frames. In: `frames/*.yaml`, `bodies.yaml`, `slots.yaml` and others. Called by `generate`.

A frame is a text with slots. `{t}` a term as singular noun, `{ts}` as plural, `{t2}` … `{t6}` other terms; `{x}`,
`{xs}` the term where it is not what the frame's role speaks of; `{g}` the people the term is aimed at, `{gs}` one of
them ("black woman"), `{ga}` the adjective; `{body}` and `{gbody}` a sentence of `bodies.yaml` with and
without a term; every list of `slots.yaml` is a slot
of its name (`{name}`, and `{name2}` for another one). A slot with a capital (`{Ts}`) begins a sentence. `|word|` marks
a term that the frame itself writes. The members of a pair are filled alike, so that only what surrounds the body
differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import xxhash
import yaml
from pydantic import Field

from curation.errors import ConfigError, Problem
from curation.settings import Settings, parse

FOLDER = Path(__file__).resolve().parent
Role = Literal["use", "quotation", "explanation", "counter_speech", "reclaimed", "homonym"]
ROLES: tuple[Role, ...] = ("use", "quotation", "explanation", "counter_speech", "reclaimed", "homonym")
PLAIN = ("hateful", "benign")  # members of pairs without a labelled mention


class Block(Settings):
    """One list of a frames file: frames that share family, role and the kind of term they take."""

    family: str = Field(min_length=1)
    role: Role | None = None
    hateful: bool | None = Field(default=None, description="default: whether the role is `use`")
    terms: Literal["person", "word", "insult", "ideology", "profanity", "reclaim", "none"] = "person"
    groups: tuple[str, ...] = Field(default=(), description="kinds of people a frame without term is true of")
    frames: tuple[str, ...] = ()
    pairs: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Member:
    """One text of a frame."""

    role: Role | None
    hateful: bool
    text: str


@dataclass(frozen=True)
class Frame:
    """One frame; several members make a minimal pair."""

    id: str
    family: str
    terms: str
    groups: tuple[str, ...]
    members: tuple[Member, ...]

    @property
    def kind(self) -> str:
        """`pair`, the role, or for frames without labelled mention `hateful`, `fair` (on a group) or `benign`."""
        if len(self.members) > 1:
            return "pair"
        member = self.members[0]
        return member.role or ("hateful" if member.hateful else "fair" if self.groups else "benign")


@dataclass(frozen=True)
class People:
    """How a target of the lexicon, or another group, is named."""

    target: str
    kinds: tuple[str, ...]
    many: tuple[str, ...]
    one: tuple[str, ...]
    adjective: str


@dataclass(frozen=True)
class Wordbook:
    """What the frames are filled with, terms apart."""

    bodies: tuple[str, ...]
    group_bodies: tuple[str, ...]
    neutral: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    people: tuple[People, ...]
    person_forms: Mapping[str, tuple[tuple[str, str], ...]]
    not_persons: frozenset[str]
    slogans: tuple[str, ...]
    reclaimed: Mapping[str, tuple[tuple[str, str], ...]]


@lru_cache(maxsize=1)
def load_frames() -> tuple[Frame, ...]:
    """All frames, sorted by file and place.

    Raises:
        ConfigError: a block that is none, a pair of one member or of unknown roles, a text written twice.
    """
    found: dict[str, Frame] = {}
    for path in sorted((FOLDER / "frames").glob("*.yaml")):
        for number, row in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
            block = parse(Block, row, f"{path.name}:{number}", "a block of frames")
            for frame in _frames(block, path.name):
                if frame.id in found:
                    raise ConfigError(Problem("bad-frames", f"frame written twice: {frame.members[0].text}", path.name))
                found[frame.id] = frame
    return tuple(found.values())


@lru_cache(maxsize=1)
def load_wordbook() -> Wordbook:
    """Bodies, neutral sentences, slot values, names of groups and the noun forms of terms."""
    terms = _read("terms.yaml")
    bodies = _read("bodies.yaml")
    return Wordbook(
        bodies=tuple(bodies["terms"]),
        group_bodies=tuple(bodies["groups"]),
        neutral=tuple(_read("neutral.yaml")),
        slots={name: tuple(map(str, values)) for name, values in _read("slots.yaml").items()},
        people=tuple(
            People(row["target"], tuple(row["kinds"]), tuple(row["many"]), tuple(row["one"]), row.get("adjective", ""))
            for row in _read("people.yaml")
        ),
        person_forms=_pairs(terms["persons"]),
        not_persons=frozenset(terms["not_persons"]),
        slogans=tuple(terms["slogans"]),
        reclaimed=_pairs(terms["reclaimed"]),
    )


def _frames(block: Block, where: str) -> list[Frame]:
    made: list[tuple[Member, ...]] = []
    for text in block.frames:
        hateful = block.role == "use" if block.hateful is None else block.hateful
        made.append((Member(block.role, hateful, text.strip()),))
    for pair in block.pairs:
        if len(pair) < 2 or set(pair) - {*ROLES, *PLAIN}:
            raise ConfigError(
                Problem("bad-frames", f"pair of {sorted(pair)}", f"{where}: {block.family}", f"two of {ROLES + PLAIN}")
            )
        made.append(tuple(_member(name, text) for name, text in pair.items()))
    return [Frame(_identity(block.family, m), block.family, block.terms, block.groups, m) for m in made]


def _member(name: str, text: str) -> Member:
    role = next((role for role in ROLES if role == name), None)
    return Member(role, name in {"use", "hateful"}, text.strip())


def _identity(family: str, members: tuple[Member, ...]) -> str:
    """Family and a hash of the texts: other frames may come and go without moving this one to another split."""
    return f"{family}/{xxhash.xxh3_64_hexdigest(chr(31).join(m.text for m in members).encode())[:10]}"


def _read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def _pairs(table: Mapping[str, list[str]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """`singular/plural` → (singular, plural); one word stands for both."""
    return {term: tuple((form.split("/")[0], form.split("/")[-1]) for form in forms) for term, forms in table.items()}
