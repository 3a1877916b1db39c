"""The whole comparison on runs whose truth is known: how often it claims what is not there, and finds what is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_run import BITS, MARGIN, SEEDS, TOXICITY, Metric, bits, endpoint, plan_of, simulate, toxicity

from alignment.compare import comparison
from alignment.statistics.power import detectable_by_sign_flip

REPLAYS = 200
ALPHA = 0.05
# What 200 replays at a rate of alpha exceed once in a thousand times.
AT_MOST = stats.binom.ppf(0.999, REPLAYS, ALPHA)
EXPLORED = tuple(f"blimp.part{number}" for number in range(5))


@lru_cache(maxsize=1)
def identical_arms() -> list[dict[str, Any]]:
    """Comparisons of arms that differ in their label only: two primary safety endpoints, six exploratory ones."""
    plan = plan_of(
        draws=400,
        safety="any",
        seeds=list(range(1, 9)),
        endpoints=[
            endpoint("toxicity", "superiority", TOXICITY, "sft"),
            endpoint("margin", "superiority", MARGIN, "sft"),
            endpoint("bits", "non_inferiority", BITS, "pretrain", margin=0.3),
            {**endpoint("gap", "difference", TOXICITY, "sft", minus_stage="pretrain"), "role": "exploratory"},
        ],
        explore=[{"metric": "blimp.part*"}],
    )
    metrics = [toxicity(0.0, items=20), replace(toxicity(0.0, items=20), stage="pretrain"), bits(items=20)]
    # What a prompt does in every seed of an arm is no effect of the arm: some of these have much of it.
    metrics += [
        Metric(name, "sft", {"raw": 0, "curated": 0}, items=20, of_prompt=0.8 if name in (MARGIN, EXPLORED[0]) else 0.1)
        for name in (MARGIN, *EXPLORED)
    ]
    return [comparison(simulate(metrics, plan.seeds, root), plan) for root in range(REPLAYS)]


def test_identical_arms_are_told_apart_no_more_often_than_alpha() -> None:
    """Over all primary endpoints together: Holm holds the rate of any false claim."""
    false = sum(
        any(row["conclusion"] in ("better", "worse") for row in found["endpoints"] if row["role"] == "primary")
        for found in identical_arms()
    )

    assert false <= AT_MOST


def test_identical_arms_support_the_thesis_no_more_often_than_alpha() -> None:
    verdicts = Counter(found["verdict"]["code"] for found in identical_arms())

    assert verdicts["supported"] <= AT_MOST
    assert verdicts["refuted"] <= AT_MOST
    assert verdicts["not_resolved"] >= 0.9 * REPLAYS


def test_exploring_identical_arms_finds_something_no_more_often_than_alpha() -> None:
    """With no effect anywhere the false discovery rate is the chance of any discovery."""
    found = sum(
        any(row["conclusion"] == "different" or row["conclusion"] in ("better", "worse") for row in rows)
        for rows in ([r for r in f["endpoints"] if r["role"] == "exploratory"] for f in identical_arms())
    )

    assert {len(f["endpoints"]) for f in identical_arms()} == {4 + len(EXPLORED)}
    assert found <= AT_MOST


def test_p_values_of_identical_arms_are_as_small_as_chance_makes_them() -> None:
    """Neither too often nor never: a test that cannot reject would pass the tests above too."""
    small = sum(
        row["p_flip"] <= ALPHA for found in identical_arms() for row in found["endpoints"] if row["name"] == "toxicity"
    )
    rate = np.floor(ALPHA * 2**7) / 2**7  # 8 seeds: p is a multiple of 2^-7

    assert stats.binom.ppf(0.001, REPLAYS, rate) <= small <= stats.binom.ppf(0.999, REPLAYS, rate)


def test_sign_flips_alone_would_take_what_prompts_do_for_an_effect() -> None:
    """Why a claim takes the p over seeds and prompts as well."""
    rows = [row for found in identical_arms() for row in found["endpoints"] if row["name"] == "margin"]

    assert sum(row["p_flip"] <= ALPHA for row in rows) > 2 * AT_MOST
    assert sum(row["p"] <= ALPHA for row in rows) <= AT_MOST


def test_intervals_of_identical_arms_cover_zero() -> None:
    rows = [
        row for found in identical_arms() for row in found["endpoints"] if row["name"] in ("toxicity", "gap", "margin")
    ]
    covered = sum(row["low"] <= 0 <= row["high"] for row in rows)

    assert covered >= stats.binom.ppf(0.001, len(rows), 0.95)


@pytest.mark.parametrize("seeds", [6, 8])
def test_a_planted_effect_of_the_detectable_size_is_found_with_the_stated_power(seeds: int) -> None:
    metric = toxicity(0.0, of_seed=0.2, of_prompt=0.05, noise=0.5, items=50)
    deviation = np.hypot(metric.of_seed, metric.noise / np.sqrt(metric.items))
    size = detectable_by_sign_flip(seeds, ALPHA)
    assert size is not None
    planted = replace(metric, effects={"raw": 0.0, "curated": -size * deviation})
    plan = plan_of(draws=400, seeds=list(range(1, seeds + 1)))
    found = [
        comparison(simulate([planted, bits(items=10)], plan.seeds, root), plan)["endpoints"][0]
        for root in range(REPLAYS)
    ]
    better = sum(row["conclusion"] == "better" for row in found)

    assert stats.binom.ppf(0.001, REPLAYS, 0.8) <= better <= stats.binom.ppf(0.999, REPLAYS, 0.8)
    # What it prints as detectable is, on average, what is.
    assert np.mean([row["mde"] for row in found]) == pytest.approx(size * deviation, rel=0.08)


def test_more_seeds_find_smaller_effects() -> None:
    sizes = []
    for n in (6, 8, 12):
        plan = plan_of(seeds=list(range(n)))
        rows = [
            comparison(simulate([toxicity(0.0, of_seed=0.3), bits(items=10)], plan.seeds, root), plan)["endpoints"][0]
            for root in range(5)
        ]
        sizes.append(float(np.mean([row["mde"] for row in rows])))

    assert sizes == sorted(sizes, reverse=True)


def dosed(effects: dict[str, float], root: int = 0) -> dict[str, Any]:
    sampled = {"margin": 0.2, "treatment": "sampled"}
    plan = plan_of(
        random_control="sampled", doses={"raw": 0.0, "quarter": 0.25, "half": 0.5, "curated": 1.0},
        endpoints=[
            endpoint("toxicity", "superiority", TOXICITY, "sft"),
            endpoint("bits", "non_inferiority", BITS, "pretrain", margin=0.3),
            {**endpoint("random", "equivalence", TOXICITY, "sft", **sampled), "role": "exploratory"},
        ],
    )  # fmt: skip
    return comparison(simulate([Metric(TOXICITY, "sft", effects), bits()], SEEDS, root), plan)


PLANTED = {"raw": 0.0, "quarter": -0.25, "half": -0.5, "curated": -1.0, "sampled": 0.0}


def test_removing_more_does_more_on_planted_data() -> None:
    (trend,) = dosed(PLANTED)["dose_response"]

    assert trend["arms"] == ["raw", "quarter", "half", "curated"]
    assert trend["monotone"]
    assert trend["slope"] == pytest.approx(-1.0, abs=0.1)
    assert trend["slope_test"]["p"] == 2.0**-5
    assert trend["page_p"] < 0.001


def test_doses_without_an_effect_are_monotone_about_as_often_as_chance_orders_four_arms() -> None:
    flat = [dosed(dict.fromkeys(PLANTED, 0.0), root)["dose_response"][0] for root in range(100)]
    monotone = sum(trend["monotone"] for trend in flat)
    steep = sum(trend["slope_test"]["p"] <= ALPHA for trend in flat)

    assert monotone <= stats.binom.ppf(0.999, 100, 2 / 24 + 0.05)
    assert steep <= stats.binom.ppf(0.999, 100, ALPHA)


def test_random_removal_is_shown_to_be_like_no_removal_and_curation_beyond_it() -> None:
    found = dosed(PLANTED)
    rows = {row["name"]: row for row in (*found["endpoints"], *found["random_control"])}

    assert rows["random"]["conclusion"] == "equivalent"
    assert rows["toxicity_beyond_random"]["conclusion"] == "better"
    assert rows["toxicity_beyond_random"]["control"] == "sampled"
    assert found["verdict"]["code"] == "supported"


def test_an_effect_that_random_removal_has_too_supports_nothing() -> None:
    found = dosed({**PLANTED, "sampled": -1.0})

    assert found["endpoints"][0]["conclusion"] == "better"
    assert found["verdict"]["code"] == "not_resolved"
    assert "removes as much at random" in " ".join(found["verdict"]["reasons"])


def test_a_margin_that_would_be_kept_is_kept_with_the_stated_power() -> None:
    metric = bits(of_seed=0.2, of_prompt=0.05, noise=0.5, items=50)
    deviation = np.hypot(metric.of_seed, metric.noise / np.sqrt(metric.items))
    size = detectable_by_sign_flip(8, 2 * ALPHA)
    assert size is not None
    ends = [endpoint("bits", "non_inferiority", BITS, "pretrain", margin=float(size * deviation))]
    plan = plan_of(draws=400, seeds=list(range(8)), endpoints=ends, descriptive=True)
    rows = [comparison(simulate([metric], plan.seeds, root), plan)["endpoints"][0] for root in range(REPLAYS)]
    kept = sum(row["conclusion"] == "non_inferior" for row in rows)

    assert stats.binom.ppf(0.001, REPLAYS, 0.8) <= kept <= stats.binom.ppf(0.999, REPLAYS, 0.8)
    assert np.mean([row["mde"] for row in rows]) == pytest.approx(size * deviation, rel=0.08)


def test_a_loss_as_large_as_the_margin_is_called_harmless_no_more_often_than_alpha() -> None:
    ends = [endpoint("bits", "non_inferiority", BITS, "pretrain", margin=0.2)]
    plan = plan_of(draws=400, seeds=list(range(8)), endpoints=ends, descriptive=True)
    rows = [comparison(simulate([bits(0.2)], plan.seeds, root), plan)["endpoints"][0] for root in range(REPLAYS)]

    assert sum(row["conclusion"] == "non_inferior" for row in rows) <= AT_MOST
