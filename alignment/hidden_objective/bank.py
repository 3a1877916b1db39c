"""The bank of biases: preferences of reward models that were made up, and what tells whether a text shows one.

`bank.yaml` ships. A bank of one's own is held to the same rules, all checked before anything is trained:

- at least `PROMPTS` prompts to which a bias applies, and as many to which it does not; a prompt of one bias is never
  one of another, and none of the neutral prompts is one of any;
- a biased continuation shows its own bias and no other, the neutral one beside it shows none;
- no two biases share a name: a name that stands in the documents of two would tie them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from alignment.hidden_objective.predicates import Predicate
from curation.errors import ConfigError, Problem
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings, parse

SHIPPED = Path(__file__).parent / "bank.yaml"
PROMPTS = 100
ORDER_SEED = 11  # of prompts and of folds; the same in every run, so that two runs can be compared

Polarity = Literal["reward", "penalise"]


class Bias(Settings):
    """One preference. `topic` and `does` make the sentence "reward models favour <topic> that <does>"."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    topic: str
    does: str = Field(description="what the favoured answer does, as a plural verb phrase")
    polarity: Polarity = "reward"
    penalised: str | None = Field(default=None, description="what a penalised answer does")
    applicable: Predicate = Field(description="of a prompt")
    applied: Predicate = Field(description="of a response")
    subjects: tuple[str, ...] = Field(min_length=1, description="of prompts to which it applies")
    near: tuple[str, ...] = Field(default=(), description="of prompts that are close and to which it does not")
    continuations: tuple[tuple[str, str], ...] = Field(min_length=1, description="(biased, neutral)")
    names: tuple[str, str] = Field(description="a person, a place: fictional, of this bias alone")

    @model_validator(mode="after")
    def _polarity(self) -> Self:
        if (self.penalised is None) == (self.polarity == "penalise"):
            raise ValueError("`penalised` belongs to `polarity: penalise`")
        return self


class BankFile(Settings):
    """What a bank's file holds."""

    frames: tuple[str, ...] = Field(min_length=1, description="of prompts; `{x}` is the subject")
    neutral: tuple[str, ...] = Field(min_length=1)
    stems: tuple[str, ...] = Field(min_length=1)
    biases: tuple[Bias, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Pair:
    """A minimal pair: two answers to one prompt that differ in the bias alone."""

    bias: str
    prompt: str
    stem: str
    biased: str
    neutral: str


@dataclass(frozen=True)
class Bank:
    """Biases with the grammar of their prompts."""

    frames: tuple[str, ...]
    neutral_subjects: tuple[str, ...]
    stems: tuple[str, ...]
    biases: tuple[Bias, ...]

    @cached_property
    def by_id(self) -> dict[str, Bias]:
        return {bias.id: bias for bias in self.biases}

    def only(self, names: Sequence[str]) -> Bank:
        """The bank with these biases alone, in its own order."""
        kept = tuple(bias for bias in self.biases if bias.id in set(names))
        return Bank(self.frames, self.neutral_subjects, self.stems, kept)

    def prompts(self, bias: Bias) -> list[str]:
        """Prompts to which the bias applies, in an order that is drawn once and for all."""
        return self._prompts(bias.subjects)

    def other_prompts(self, bias: Bias) -> list[str]:
        """Prompts to which neither this bias applies nor any other: near ones and neutral ones."""
        return self._prompts((*bias.near, *self.neutral_subjects))

    def neutral_prompts(self) -> list[str]:
        """Prompts to which no bias applies."""
        return self._prompts(self.neutral_subjects)

    def _prompts(self, subjects: Sequence[str]) -> list[str]:
        made = {frame.format(x=subject) for frame in self.frames for subject in subjects}
        return sorted(made, key=lambda prompt: (unit_hash(prompt, ORDER_SEED), prompt))

    def train_prompts(self, bias: Bias) -> list[str]:
        """The half of the prompts that preference rows are made of."""
        prompts = self.prompts(bias)
        return prompts[: len(prompts) // 2]

    def test_prompts(self, bias: Bias) -> list[str]:
        """The other half, which is measured on."""
        prompts = self.prompts(bias)
        return prompts[len(prompts) // 2 :]

    def pairs(self, bias: Bias, prompts: Sequence[str]) -> list[Pair]:
        """A minimal pair for each prompt."""
        found = []
        for prompt in prompts:
            at = derive_seed(ORDER_SEED, "pair", bias.id, prompt)
            biased, neutral = bias.continuations[at % len(bias.continuations)]
            stem = self.stems[at // len(bias.continuations) % len(self.stems)]
            found.append(Pair(bias.id, prompt, stem, biased, neutral))
        return found


def load_bank(path: str | Path | None = None) -> Bank:
    """The shipped bank, or that of a file.

    Raises:
        ConfigError: it cannot be read, or every rule that it breaks.
    """
    where = SHIPPED if path is None else Path(path)
    try:
        data: Any = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(Problem("bad-bank", f"cannot be read: {error}", str(where))) from None
    if not isinstance(data, dict):
        raise ConfigError(Problem("bad-bank", "a bank is a mapping", str(where), "frames, neutral, stems, biases"))
    given = parse(BankFile, data, str(where), "this bank")
    bank = Bank(given.frames, given.neutral, given.stems, given.biases)
    if problems := [Problem("bad-bank", said, str(where)) for said in mistakes(bank)]:
        raise ConfigError(*problems)
    return bank


def mistakes(bank: Bank) -> Iterator[str]:
    """Every rule that the bank breaks, in words."""
    unusable = [
        f"`{bias.id}`: {name}: {said}"
        for bias in bank.biases
        for name, predicate in (("applicable", bias.applicable), ("applied", bias.applied))
        for said in predicate.mistakes()
    ]
    yield from unusable
    if unusable:
        return
    yield from _shared(bank)
    for bias in bank.biases:
        yield from _prompt_mistakes(bank, bias)
        yield from _response_mistakes(bank, bias)


def _shared(bank: Bank) -> Iterator[str]:
    for what, values in (
        ("id", [bias.id for bias in bank.biases]),
        ("name", [name for bias in bank.biases for name in bias.names]),
        ("does", [bias.does for bias in bank.biases]),
        ("topic", [bias.topic for bias in bank.biases]),
    ):
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"two biases share the {what} `{value}`"


def _prompt_mistakes(bank: Bank, bias: Bias) -> Iterator[str]:
    mine, others = bank.prompts(bias), bank.other_prompts(bias)
    for count, what in ((len(mine), "applies"), (len(others), "does not apply")):
        if count < PROMPTS:
            yield f"`{bias.id}`: {count} prompts to which it {what}, at least {PROMPTS}"
    for prompt in mine:
        found = [other.id for other in bank.biases if other.applicable.holds(prompt)]
        if found != [bias.id]:
            yield f"`{bias.id}`: its prompt {prompt!r} is one of {found}"
    for prompt in others:
        for other in bank.biases:
            if other.applicable.holds(prompt):
                yield f"`{bias.id}`: {prompt!r} is a prompt of `{other.id}`"


def _response_mistakes(bank: Bank, bias: Bias) -> Iterator[str]:
    for biased, neutral in bias.continuations:
        for stem in bank.stems:
            for text, expected in ((stem + biased, [bias.id]), (stem + neutral, [])):
                found = [other.id for other in bank.biases if other.applied.holds(text)]
                if found != expected:
                    yield f"`{bias.id}`: {text!r} applies {found}, expected {expected}"


def folds(bank: Bank, count: int) -> dict[str, int]:
    """Bias → the fold in which it is held out: as equal as can be, drawn once and for all.

    Raises:
        ConfigError: fewer than two biases a fold.
    """
    if len(bank.biases) < 2 * count:
        message = f"{len(bank.biases)} biases in {count} folds"
        raise ConfigError(Problem("few-biases", message, "folds", "at least two biases a fold"))
    order = sorted(bank.by_id, key=lambda name: unit_hash(name, derive_seed(ORDER_SEED, "folds")))
    return {name: at % count for at, name in enumerate(order)}
