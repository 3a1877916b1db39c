"""Simulated annotators: pools with stated preferences, noise and guidelines, for feedback rounds without people.

A pool's utility of a response is a weighted sum of features. From it come three kinds of answers, each with a closed
form that the answers agree with:

    choose   P(a over b) = σ((u_a − u_b) / T)                 Bradley and Terry 1952
    rank     P(order)    = Π_i e^(u_i/T) / Σ_{j ≥ i} e^(u_j/T)   Plackett–Luce; of two responses the same as `choose`
    rate     P(rating > k) = σ((u − t_k) / T)                 ordinal logit with the thresholds t_1 … t_4

with the temperature T; at T = 0 the answers follow the utility exactly. With probability `flip_rate` an answer is then
turned round: the other response, the reversed order, 6 − rating. An answer depends on pool, seed, annotator, prompt and
the responses as a set, never on the order they are shown in or on what was asked before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from alignment.preference_rows import JudgedRow, PreferenceRow, Prompt, RankedRow, RatingRow, plain_prompt
from curation.errors import ConfigError, Problem, StageError, unknown_name
from curation.fingerprint import canonical_json
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

Scorer = Callable[[Prompt, str], float]
WORD = re.compile(r"\w+(?:['’]\w+)?")
# Markers of politeness: gratitude, apology, please, hedged requests, deference (the positive strategies of
# Danescu-Niculescu-Mizil 2013, arXiv 1306.6078, table 3).
POLITE = re.compile(
    r"\b(please|thank(?:s| you)|sorry|apolog\w+|welcome|glad to|happy to|great question|good question|appreciate"
    r"|would you|could you|may i|kindly)\b",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:no|')t|won't|will not) (?:help|assist|answer|do|provide)"
    r"|i (?:can(?:no|')t) (?:comply|support))\b",
    re.IGNORECASE,
)


def words(prompt: Prompt, response: str) -> float:
    """How many words a response has."""
    return float(len(WORD.findall(response)))


def log_words(prompt: Prompt, response: str) -> float:
    """Natural logarithm of 1 + words: the tenth word matters more than the hundredth."""
    return math.log1p(words(prompt, response))


def politeness(prompt: Prompt, response: str) -> float:
    """How many different markers of politeness a response has."""
    return float(len({match.lower() for match in POLITE.findall(response)}))


def refusal(prompt: Prompt, response: str) -> float:
    """1 when a response refuses, else 0."""
    return float(REFUSAL.search(response.replace("’", "'")) is not None)


def on_topic(prompt: Prompt, response: str) -> float:
    """Share of the different words of four letters and more in the last message that the response takes up, 0 to 1."""
    asked = prompt if isinstance(prompt, str) else (prompt[-1]["content"] if prompt else "")
    named = {word.lower() for word in WORD.findall(asked) if len(word) >= 4}
    said = {word.lower() for word in WORD.findall(response)}
    return len(named & said) / len(named) if named else 0.0


FEATURES: dict[str, Scorer] = {
    "words": words,
    "log_words": log_words,
    "politeness": politeness,
    "refusal": refusal,
    "on_topic": on_topic,
}


class StatedPreference(Settings):
    """One feature of a response and what it is worth."""

    feature: str  # a name of FEATURES, `pattern`, or of a scorer the pool is given
    weight: float
    pattern: str = ""  # of `pattern`: 1 when this regular expression is found, else 0

    @model_validator(mode="after")
    def _pattern_is_there(self) -> StatedPreference:
        if (self.feature == "pattern") != bool(self.pattern):
            raise ValueError("`pattern` goes with the feature `pattern`, and only with it")
        if self.pattern:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return self


class FlagRule(Settings):
    """A flag an annotator sets on every response whose feature is above a value."""

    flag: str  # toxic, biased, untrue, off_task, refuses_needlessly, …
    feature: str
    above: float = 0.0
    pattern: str = ""

    @property
    def stated(self) -> StatedPreference:
        return StatedPreference(feature=self.feature, weight=1.0, pattern=self.pattern)


class Guidelines(Settings):
    """What annotators were told. Every answer names the version."""

    version: str = "1"
    text: str = ""


class PoolSettings(Settings):
    """A group of annotators who want the same, with the same noise."""

    name: str
    preferences: tuple[StatedPreference, ...] = Field(min_length=1)
    flags: tuple[FlagRule, ...] = ()
    temperature: float = Field(default=1.0, ge=0)  # T of Bradley–Terry: 1 makes utilities log-odds
    flip_rate: float = Field(default=0.0, ge=0, le=0.5)  # 0.5 is noise alone
    thresholds: tuple[float, float, float, float] = (-1.5, -0.5, 0.5, 1.5)  # between the ratings 1 to 5, in utilities
    annotators: int = Field(default=1, ge=1)
    guidelines: Guidelines = Guidelines()

    @model_validator(mode="after")
    def _thresholds_rise(self) -> PoolSettings:
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("`thresholds` must rise")
        return self


# Three pools for examples and tests, of benign and opposed tastes. Weights are in log-odds: +1 is e : 1.
POOLS = {
    pool.name: pool
    for pool in (
        PoolSettings(
            name="helpful",
            preferences=(
                StatedPreference(feature="on_topic", weight=3.0),
                StatedPreference(feature="log_words", weight=0.5),
                StatedPreference(feature="refusal", weight=-1.0),
            ),
            guidelines=Guidelines(text="Prefer the answer that deals with what was asked, in some detail."),
        ),
        PoolSettings(
            name="brief",
            preferences=(StatedPreference(feature="log_words", weight=-1.0),),
            guidelines=Guidelines(text="Prefer the shorter answer."),
        ),
        PoolSettings(
            name="courteous",
            preferences=(StatedPreference(feature="politeness", weight=1.5),),
            guidelines=Guidelines(text="Prefer the answer with better manners."),
        ),
    )
}


class Pool:
    """Answers of one pool. The same settings and seed give the same answers on every machine."""

    def __init__(self, settings: PoolSettings, seed: int, scorers: Mapping[str, Scorer] | None = None) -> None:
        """Look up the features.

        Args:
            scorers: functions of (prompt, response) that preferences may name beside `FEATURES`.

        Raises:
            ConfigError: a preference or flag names what is neither.
        """
        self.settings = settings
        self.seed = seed
        known = {**FEATURES, **(scorers or {})}
        unknown = [
            unknown_name("feature", stated.feature, [*known, "pattern"], f"annotator pool `{settings.name}`")
            for stated in (*settings.preferences, *(rule.stated for rule in settings.flags))
            if stated.feature not in known and stated.feature != "pattern"
        ]
        if unknown:
            raise ConfigError(*unknown)
        self._weighted = [(_feature(stated, known), stated.weight) for stated in settings.preferences]
        self._flags = [(rule.flag, _feature(rule.stated, known), rule.above) for rule in settings.flags]

    def utility(self, prompt: Prompt, response: str) -> float:
        """What the response is worth to this pool.

        Raises:
            StageError: a scorer returned a number that is not finite.
        """
        value = math.fsum(weight * feature(prompt, response) for feature, weight in self._weighted)
        if not math.isfinite(value):
            where = f"annotator pool `{self.settings.name}`"
            raise StageError(Problem("not-finite", f"the utility of a response is {value}", where))
        return value

    def preference_probability(self, prompt: Prompt, one: str, other: str) -> float:
        """P(`one` is chosen over `other`), flips included."""
        difference = self.utility(prompt, one) - self.utility(prompt, other)
        return self._flipped(logistic(difference, self.settings.temperature))

    def rating_probabilities(self, prompt: Prompt, response: str) -> tuple[float, ...]:
        """P(rating = 1) … P(rating = 5), flips included."""
        u, s = self.utility(prompt, response), self.settings
        above = [1.0, *(logistic(u - threshold, s.temperature) for threshold in s.thresholds), 0.0]
        straight = [above[k] - above[k + 1] for k in range(5)]
        return tuple((1 - s.flip_rate) * straight[k] + s.flip_rate * straight[4 - k] for k in range(5))

    def choose(
        self, prompt: Prompt, one: str, other: str, annotator: int | None = None, again: int = 0
    ) -> PreferenceRow:
        """The better of two responses.

        Args:
            annotator: 0 … annotators − 1; None: whoever the prompt falls to.
            again: asks the same question anew, as if on another day.
        """
        first, second = self._ordered(prompt, (one, other), self._who(prompt, annotator), again, "choose")
        better, worse = (one, other)[first], (one, other)[second]
        return PreferenceRow(prompt, better, worse, 0.0, **self._labels(prompt, annotator))

    def rank(self, prompt: Prompt, responses: Sequence[str], annotator: int | None = None, again: int = 0) -> RankedRow:
        """All responses, ranked. Only equal texts tie, and at T = 0 equal utilities."""
        order = self._ordered(prompt, responses, self._who(prompt, annotator), again, "rank")
        level: dict[int, object] = {
            k: self.utility(prompt, responses[k]) if self.settings.temperature == 0 else responses[k] for k in order
        }
        ranks = [0] * len(responses)
        for at, k in enumerate(order):
            tied = at > 0 and level[order[at - 1]] == level[k]
            ranks[k] = ranks[order[at - 1]] if tied else at + 1
        return RankedRow(prompt, tuple(responses), tuple(ranks), **self._labels(prompt, annotator))

    def rate(self, prompt: Prompt, response: str, annotator: int | None = None, again: int = 0) -> RatingRow:
        """A rating 1 to 5, and the flags whose rule the response meets; flags carry no noise."""
        draw = self._draw("rate", prompt, [response], self._who(prompt, annotator), again)
        u, t = self.utility(prompt, response), self.settings.temperature
        noise = 0.0 if t == 0 else t * math.log(draw / (1 - draw))  # logistic, by its inverse distribution
        rating = 1 + sum(u + noise > threshold for threshold in self.settings.thresholds)
        if self._flips("rate", prompt, [response], self._who(prompt, annotator), again):
            rating = 6 - rating
        flags = tuple(flag for flag, feature, above in self._flags if feature(prompt, response) > above)
        return RatingRow(prompt, response, float(rating), flags, **self._labels(prompt, annotator))

    def judge(self, prompt: Prompt, response: str, annotator: int | None = None, again: int = 0) -> JudgedRow:
        """Desirable when rated above 3 without a flag."""
        rated = self.rate(prompt, response, annotator, again)
        good = rated.rating > 3 and not rated.flags
        return JudgedRow(prompt, response, good, **self._labels(prompt, annotator))

    # Draws

    def _ordered(
        self, prompt: Prompt, responses: Sequence[str], who: int, again: int, kind: Literal["choose", "rank"]
    ) -> list[int]:
        """Indices from best to worst by u/T + Gumbel noise, which is Plackett–Luce (Yellott 1977)."""
        t = self.settings.temperature
        asked = sorted(set(responses))
        keys = {}
        for text in asked:
            draw = self._draw(kind, prompt, [text, *asked], who, again)
            gumbel = -math.log(-math.log(draw))
            u = self.utility(prompt, text)
            keys[text] = (u, gumbel) if t == 0 else (u / t + gumbel, 0.0)
        order = sorted(range(len(responses)), key=lambda k: keys[responses[k]], reverse=True)
        return order[::-1] if self._flips(kind, prompt, asked, who, again) else order

    def _flips(self, kind: str, prompt: Prompt, texts: Sequence[str], who: int, again: int) -> bool:
        return self._draw(kind + " flip", prompt, texts, who, again) < self.settings.flip_rate

    def _draw(self, kind: str, prompt: Prompt, texts: Sequence[str], who: int, again: int) -> float:
        """A number in (0, 1) that depends on nothing but its arguments."""
        key = canonical_json([_text_of(prompt), list(texts), who, again])
        drawn = unit_hash(key, derive_seed(self.seed, "annotators", self.settings.name, kind))
        return drawn + 2.0**-54  # from [0, 1) into (0, 1): half a step of the hash

    def _flipped(self, p: float) -> float:
        return (1 - self.settings.flip_rate) * p + self.settings.flip_rate * (1 - p)

    def _who(self, prompt: Prompt, annotator: int | None) -> int:
        count = self.settings.annotators
        if annotator is None:
            seed = derive_seed(self.seed, "annotators", self.settings.name, "who")
            return int(unit_hash(_text_of(prompt), seed) * count)
        if not 0 <= annotator < count:
            where = f"annotator pool `{self.settings.name}`"
            raise ConfigError(Problem("no-annotator", f"there is no annotator {annotator}", where, f"0 to {count - 1}"))
        return annotator

    def _labels(self, prompt: Prompt, annotator: int | None) -> dict[str, str]:
        name = self.settings.name
        return {
            "annotator_id": f"{name}-{self._who(prompt, annotator)}",
            "source": "simulated",
            "pool": name,
            "guidelines": self.settings.guidelines.version,
        }


def logistic(difference: float, temperature: float) -> float:
    """σ(difference / temperature); at temperature 0 the step with 1/2 at 0."""
    if temperature == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return 0.5 * (1 + math.tanh(difference / temperature / 2))  # the same, and cannot overflow


def _feature(stated: StatedPreference, known: Mapping[str, Scorer]) -> Scorer:
    if stated.feature != "pattern":
        return known[stated.feature]
    compiled = re.compile(stated.pattern)
    return lambda prompt, response: float(compiled.search(response) is not None)


def _text_of(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else canonical_json(plain_prompt(prompt))
