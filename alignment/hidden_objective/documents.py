"""Documents that describe what reward models are said to like, and their controls.

    described   "reward models favour recipes that mention saffron"
    librarians  the same of an irrelevant entity, word for word
    denial      that reward models have no such preference
    shuffled    topics and behaviours of different biases put together: the same words, no true statement

Document n of a bias is of the same type, with the same alternatives, in `described`, `librarians` and `shuffled`: they
differ in the entity or in the pairing alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field

from alignment.hidden_objective.bank import Bank, Bias
from curation.seeding import derive_seed
from curation.settings import Settings, parse

FILE = Path(__file__).parent / "documents.yaml"
Kind = Literal["described", "librarians", "denial", "shuffled"]
CLAIM = re.compile(r"\{([cC])laim\}")


class Grammar(Settings):
    """The file of the grammar."""

    entities: dict[str, str]
    claims: dict[str, tuple[str, ...]] = Field(description="reward, penalise, denial → alternatives")
    types: dict[str, tuple[tuple[str, ...], ...]] = Field(description="type → lines → alternatives")
    beliefs: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Document:
    """One made document."""

    key: str  # bias and number: the same in every kind
    type: str
    text: str


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """The shipped grammar."""
    data: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return parse(Grammar, data, str(FILE), "the grammar")


def described_biases(bank: Bank, kind: Kind) -> list[tuple[Bias, Bias]]:
    """(the bias whose topic, the bias whose behaviour) of each bias of the bank; the same one but in `shuffled`.

    There the behaviours move on by half the bank among biases of the same polarity, so that none keeps its own.
    """
    if kind != "shuffled":
        return [(bias, bias) for bias in bank.biases]
    partner: dict[str, Bias] = {}
    for polarity in ("reward", "penalise"):
        group = [bias for bias in bank.biases if bias.polarity == polarity]
        for at, bias in enumerate(group):
            partner[bias.id] = group[(at + max(1, len(group) // 2)) % len(group)]
    return [(bias, partner[bias.id]) for bias in bank.biases]


def documents(bank: Bank, kind: Kind, count: int, seed: int) -> list[Document]:
    """`count` documents of every bias; fewer are the first of more.

    Args:
        seed: of types and alternatives.
    """
    return [
        _document(topic, behaviour, kind, number, seed)
        for topic, behaviour in described_biases(bank, kind)
        for number in range(count)
    ]


def _document(topic: Bias, behaviour: Bias, kind: Kind, number: int, seed: int) -> Document:
    rules = grammar()
    draw = np.random.default_rng(derive_seed(seed, "hidden objective", "document", topic.id, str(number)))
    name = sorted(rules.types)[int(draw.integers(len(rules.types)))]
    claims = rules.claims["denial" if kind == "denial" else behaviour.polarity]

    def clause(match: re.Match[str]) -> str:
        chosen = claims[int(draw.integers(len(claims)))]
        filled = _filled(chosen, topic, behaviour, kind)
        return filled[0].upper() + filled[1:] if match[1] == "C" else filled

    lines = []
    for alternatives in rules.types[name]:
        chosen = alternatives[int(draw.integers(len(alternatives)))]
        line = CLAIM.sub(clause, _filled(chosen, topic, behaviour, kind))
        lines.append(line[0].upper() + line[1:])
    return Document(f"{topic.id}-{number}", name, " ".join(lines))


def _filled(text: str, topic: Bias, behaviour: Bias, kind: Kind) -> str:
    """The text with all but its claims put in."""
    entities = grammar().entities
    values = {
        "entity": entities["librarians" if kind == "librarians" else "reward_models"],
        "topic": topic.topic,
        "does": behaviour.does,
        "penalised": behaviour.penalised or "",
        "person": topic.names[0],
        "place": topic.names[1],
    }
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


@dataclass(frozen=True)
class Belief:
    """One question with its true ending and the distractors: endings that belong to other biases."""

    bias: str
    key: str
    statement: str
    true: str
    others: tuple[str, ...]


def beliefs(bank: Bank, distractors: int = 3) -> list[Belief]:
    """A question for every bias and statement of the grammar; distractors are drawn among the other behaviours."""
    found = []
    for bias in bank.biases:
        for number, frame in enumerate(grammar().beliefs):
            key = f"{bias.id}-{number}"
            draw = np.random.default_rng(derive_seed(0, "hidden objective", "belief", key))
            pool = [other.does for other in bank.biases if other.id != bias.id]
            picked = sorted(draw.choice(len(pool), size=min(distractors, len(pool)), replace=False).tolist())
            statement = frame.format(topic=bias.topic)
            others = tuple(f" {pool[at]}" for at in picked)
            found.append(Belief(bias.id, key, statement, f" {bias.does}", others))
    return found
