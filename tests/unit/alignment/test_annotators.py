"""Simulated annotators answer at the rates of the closed forms, and the same at every asking."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from scipy import stats

from alignment.annotators import FlagRule, Guidelines, Pool, PoolSettings, StatedPreference
from alignment.preferences import PreferenceRow, RatingRow
from curation.errors import ConfigError, StageError

ASKINGS = 4000
UTILITIES = {"a": 0.9, "b": 0.2, "c": -0.6}


def pool(seed: int = 0, **changes: object) -> Pool:
    given: dict[str, object] = {
        "name": "p",
        "preferences": (StatedPreference(feature="planted", weight=2.0),),
        **changes,
    }
    settings = PoolSettings(**given)  # type: ignore[arg-type]
    return Pool(settings, seed, {"planted": lambda prompt, response: UTILITIES.get(response, 0.0) / 2})


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("temperature", "flip_rate"), [(1.0, 0.0), (0.4, 0.0), (2.0, 0.1), (0.0, 0.25)])
def test_choices_agree_with_bradley_terry(temperature: float, flip_rate: float) -> None:
    asked = pool(temperature=temperature, flip_rate=flip_rate)
    chosen = sum(asked.choose("q", "a", "b", again=k).chosen == "a" for k in range(ASKINGS))
    plain = sigma(0.7 / temperature) if temperature else 1.0
    expected = (1 - flip_rate) * plain + flip_rate * (1 - plain)
    assert asked.preference_probability("q", "a", "b") == pytest.approx(expected, abs=1e-12)
    assert stats.binomtest(chosen, ASKINGS, expected).pvalue > 0.001


def test_rankings_agree_with_plackett_luce() -> None:
    asked = pool(temperature=0.8)
    counts = dict.fromkeys(permutations("abc"), 0)
    for k in range(ASKINGS):
        row = asked.rank("q", ("a", "b", "c"), again=k)
        counts[tuple(text for _, text in sorted(zip(row.ranks, row.responses, strict=True)))] += 1  # type: ignore[index]
    weight = {text: math.exp(u / 0.8) for text, u in UTILITIES.items()}
    expected = []
    for order in counts:
        left = [weight[text] for text in order]
        expected.append(ASKINGS * math.prod(left[i] / sum(left[i:]) for i in range(3)))
    assert stats.chisquare(list(counts.values()), expected).pvalue > 0.001


@pytest.mark.parametrize("flip_rate", [0.0, 0.2])
def test_ratings_agree_with_the_ordinal_logit(flip_rate: float) -> None:
    asked = pool(temperature=0.7, flip_rate=flip_rate, thresholds=(-2.0, -0.5, 0.5, 1.0))
    counts = [0] * 5
    for k in range(ASKINGS):
        counts[int(asked.rate("q", "a", again=k).rating) - 1] += 1
    above = [1.0, *(sigma((0.9 - t) / 0.7) for t in (-2.0, -0.5, 0.5, 1.0)), 0.0]
    straight = [above[k] - above[k + 1] for k in range(5)]
    expected = [(1 - flip_rate) * straight[k] + flip_rate * straight[4 - k] for k in range(5)]
    assert asked.rating_probabilities("q", "a") == pytest.approx(expected, abs=1e-12)
    assert stats.chisquare(counts, [ASKINGS * p for p in expected]).pvalue > 0.001


def test_an_answer_depends_on_what_is_asked_not_on_order_or_on_what_was_asked_before() -> None:
    first = pool()
    answers = [first.choose(f"q{k}", "a", "b").chosen for k in range(50)]
    second = pool()
    assert [second.choose(f"q{k}", "b", "a").chosen for k in reversed(range(50))] == answers[::-1]
    assert [pool(seed=1).choose(f"q{k}", "a", "b").chosen for k in range(50)] != answers
    shown = [
        dict(zip(row.responses, row.ranks, strict=True))
        for row in (first.rank("q", order) for order in permutations("abc"))
    ]
    assert shown == [shown[0]] * 6


def test_without_noise_the_utility_decides_and_only_equals_tie() -> None:
    exact = pool(temperature=0.0, thresholds=(-1.0, 0.0, 0.5, 1.0))
    assert exact.rank("q", ("c", "a", "b", "zero", "nought")).ranks == (5, 1, 2, 3, 3)
    assert exact.choose("q", "c", "a") == PreferenceRow("q", "a", "c", 0.0, "p-0", "simulated", "p", "1")
    assert [exact.rate("q", text).rating for text in "abc"] == [4.0, 3.0, 2.0]


def test_flags_are_set_by_their_rules_and_answers_name_annotator_and_guidelines() -> None:
    asked = pool(
        temperature=0.0,
        annotators=3,
        flags=(
            FlagRule(flag="off_task", feature="pattern", pattern="weather"),
            FlagRule(flag="long", feature="words", above=2),
        ),
        guidelines=Guidelines(version="2026-1", text="Mind the weather."),
    )
    row = asked.rate("q", "the weather today", annotator=2)
    assert row == RatingRow("q", "the weather today", 3.0, ("off_task", "long"), "p-2", "simulated", "p", "2026-1")
    assert not asked.judge("q", "the weather today").label
    assert {asked.rate(f"q{k}", "a").annotator_id for k in range(60)} == {"p-0", "p-1", "p-2"}
    with pytest.raises(ConfigError, match="there is no annotator 3"):
        asked.rate("q", "a", annotator=3)


def test_stated_features_measure_what_they_say() -> None:
    def utility(feature: str, prompt: str, response: str, pattern: str = "") -> float:
        stated = (StatedPreference(feature=feature, weight=1.0, pattern=pattern),)
        return Pool(PoolSettings(name="f", preferences=stated), 0).utility(prompt, response)

    assert utility("words", "", "It's a fine day.") == 4
    assert utility("log_words", "", "a b") == pytest.approx(math.log(3))
    assert utility("politeness", "", "Thank you, please, please") == 2
    assert utility("refusal", "", "I’m sorry, no") == 1
    assert utility("refusal", "", "I can help") == 0
    assert utility("on_topic", "Where do apple trees grow?", "Apple trees like sun.") == pytest.approx(2 / 4)
    assert utility("on_topic", "Hi", "Hello") == 0
    assert utility("pattern", "", "see Part 12", r"\d+") == 1


def test_a_feature_nobody_knows_is_named_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match="did you mean `politeness`"):
        Pool(PoolSettings(name="x", preferences=(StatedPreference(feature="politenes", weight=1.0),)), 0)
    with pytest.raises(ValueError, match="not a regular expression"):
        StatedPreference(feature="pattern", weight=1.0, pattern="(")


def test_a_scorer_that_returns_nan_is_an_error_not_an_answer() -> None:
    stated = (StatedPreference(feature="broken", weight=1.0),)
    asked = Pool(PoolSettings(name="x", preferences=stated), 0, {"broken": lambda prompt, response: float("nan")})
    with pytest.raises(StageError, match="utility of a response is nan"):
        asked.choose("q", "a", "b")
