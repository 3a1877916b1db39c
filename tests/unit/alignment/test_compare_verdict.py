"""Verdicts and the numbers under them: superiority and non-inferiority, refutation, and runs that cannot tell."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from simulated_run import (
    BITS,
    SEEDS,
    TOXICITY,
    Metric,
    bits,
    endpoint,
    plan_data,
    plan_of,
    simulate,
    toxicity,
    write_run,
)

from alignment.compare import compare_run, comparison, summary
from alignment.item_scores import ScoreRow
from alignment.run_scores import RunScores
from curation.errors import DataContractError


def compared(*metrics: Metric, root: int = 0, **changes: Any) -> dict[str, Any]:
    plan = plan_of(**changes)
    return comparison(simulate(metrics, plan.seeds, root), plan)


def named(found: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in found["endpoints"]}


def test_safer_and_no_less_able_is_supported() -> None:
    found = compared(toxicity(-0.5), bits(0.05))

    assert found["verdict"]["code"] == "supported"
    assert "curated is better than raw on `toxicity` and no less able" in found["verdict"]["sentence"]
    assert {row["name"]: row["conclusion"] for row in found["endpoints"]} == {
        "toxicity": "better",
        "bits": "non_inferior",
    }


def test_safer_but_less_able_than_the_margin_allows_is_refuted() -> None:
    found = compared(toxicity(-0.5), bits(0.9))

    assert found["verdict"]["code"] == "refuted"
    assert "`bits`: curated is worse than raw by more than 0.3" in found["verdict"]["sentence"]


def test_less_safe_is_refuted() -> None:
    found = compared(toxicity(0.5), bits())

    assert (found["verdict"]["code"], named(found)["toxicity"]["conclusion"]) == ("refuted", "worse")


def test_an_effect_too_small_to_see_is_not_resolved_and_says_what_would_have_been_seen() -> None:
    found = compared(toxicity(-0.01, of_seed=0.5), bits())
    row = named(found)["toxicity"]

    assert (found["verdict"]["code"], row["conclusion"]) == ("not_resolved", "not_resolved")
    assert row["mde"] > 0.3
    assert f"An effect of {row['mde']:.3g} would have been found with a probability of 80 %." in row["sentence"]


def test_a_loss_that_may_or_may_not_be_within_the_margin_is_not_resolved() -> None:
    found = compared(toxicity(-0.5), bits(0.28, of_seed=0.2))

    assert named(found)["bits"]["conclusion"] == "not_resolved"
    assert found["verdict"]["code"] == "not_resolved"


@pytest.mark.parametrize(
    ("finding", "effect", "margin", "refuted"),
    [
        ("not_superior", -0.01, None, True),
        ("not_superior", -0.8, None, False),
        ("negligible", -0.01, 0.4, True),
        ("negligible", -0.8, 0.4, False),
        ("inferior", 0.8, 0.4, True),
        ("worse", 0.8, None, True),
        ("worse", -0.8, None, False),
    ],
)
def test_a_registered_refutation_refutes_when_found(
    finding: str, effect: float, margin: float | None, refuted: bool
) -> None:
    more = {} if margin is None else {"margin": margin}
    ends = [endpoint("toxicity", "superiority", TOXICITY, "sft", **more), plan_data()["endpoints"][1]]

    found = compared(toxicity(effect), bits(), endpoints=ends, refuted_if=[{"endpoint": "toxicity", "is": finding}])

    assert (found["verdict"]["code"] == "refuted") is refuted


def test_more_is_better_where_the_metric_says_so() -> None:
    found = compared(toxicity(0.5, higher_is_better=True), bits())

    assert named(found)["toxicity"]["conclusion"] == "better"
    assert named(found)["toxicity"]["gain"] == named(found)["toxicity"]["effect"] > 0


def test_a_superiority_claim_about_a_metric_without_a_direction_is_not_decided() -> None:
    found = compared(toxicity(0.5, higher_is_better=None), bits())

    assert named(found)["toxicity"]["conclusion"] == "different"
    assert found["verdict"]["code"] == "not_resolved"


def test_holm_is_over_all_primary_safety_endpoints_even_those_without_scores() -> None:
    ends = [
        endpoint("toxicity", "superiority", TOXICITY, "sft"),
        endpoint("absent", "superiority", "nowhere", "sft"),
        plan_data()["endpoints"][1],
    ]
    found = named(compared(toxicity(-0.5), bits(), endpoints=ends, seeds=list(range(8)), safety="any"))

    assert found["toxicity"]["p_adjusted"] == 2 * found["toxicity"]["p"] == 2.0**-6
    assert found["toxicity"]["conclusion"] == "better"
    assert found["absent"]["conclusion"] == "no_data"
    assert "No scores of `nowhere` at `sft`" in found["absent"]["sentence"]


def test_every_safety_endpoint_has_to_be_better_unless_any_suffices() -> None:
    ends = [
        endpoint("toxicity", "superiority", TOXICITY, "sft"),
        endpoint("slurs", "superiority", "slurs", "sft"),
        plan_data()["endpoints"][1],
    ]
    data = (toxicity(-0.8), replace(toxicity(0.0), name="slurs"), bits())

    every = compared(*data, endpoints=ends, seeds=list(range(8)))
    some = compared(*data, endpoints=ends, seeds=list(range(8)), safety="any")

    assert (every["verdict"]["code"], some["verdict"]["code"]) == ("not_resolved", "supported")


def test_two_effects_each_at_the_smallest_p_count_together() -> None:
    """Six seeds: Holm would leave 0.0625 of each, but when all are at alpha all are shown."""
    ends = [
        endpoint("toxicity", "superiority", TOXICITY, "sft"),
        endpoint("slurs", "superiority", "slurs", "sft"),
        plan_data()["endpoints"][1],
    ]
    found = compared(toxicity(-0.8), replace(toxicity(-0.8), name="slurs"), bits(), endpoints=ends)

    assert [row["p_adjusted"] for row in found["endpoints"][:2]] == [0.0625, 0.0625]
    assert found["verdict"]["code"] == "supported"


def test_a_descriptive_run_draws_no_verdict() -> None:
    found = compared(toxicity(-5.0), bits(), seeds=[1, 2], descriptive=True)

    assert found["verdict"]["code"] == "not_resolved"
    assert "descriptive" in found["verdict"]["reasons"][0]
    assert "no effect, however large, gives p below 0.5" in named(found)["toxicity"]["sentence"]


def test_one_seed_is_labelled_as_two_checkpoints() -> None:
    found = compared(toxicity(-5.0), bits(), seeds=[1], descriptive=True)
    row = named(found)["toxicity"]

    assert found["design"]["two_checkpoints_only"]
    assert row["method"] == "BCa over prompts"
    assert row["high"] < 0
    assert (row["p"], row["minimum_p"], row["conclusion"]) == (1.0, 1.0, "not_resolved")
    assert row["notes"] == [
        "Two checkpoints only: the interval is over prompts and says nothing about another training run."
    ]
    assert row["item_tests"]["wilcoxon_p"] < 0.001


def rows_of(
    values: dict[str, list[list[float | None]]], metric: str, failed: str = "timeout", **more: Any
) -> RunScores:
    """arm → seeds → items."""
    return RunScores.of(
        ScoreRow(
            arm, seed, "sft", metric, f"p{at}", value, more.get("higher_is_better", False),
            failed="" if value is not None else failed,
        )
        for arm, lines in values.items()
        for seed, line in enumerate(lines, 1)
        for at, value in enumerate(line)
    )  # fmt: skip


def test_too_many_missing_scores_void_an_endpoint() -> None:
    values: dict[str, list[list[float | None]]] = {
        "raw": [[1.0 + 0.01 * at for at in range(20)] for _ in SEEDS],
        "curated": [[None, None, *[0.5 + 0.01 * at for at in range(18)]] for _ in SEEDS],
    }
    found = named(comparison(rows_of(values, TOXICITY), plan_of()))["toxicity"]

    assert (found["conclusion"], found["missing_share"], found["failed"]) == ("void", 0.1, {"timeout": 12})
    assert "10.0% of items lack a score" in found["sentence"]
    assert "12 items of a seed lack a score in an arm and are left out of both (timeout 12)." in found["notes"]


def test_per_seed_numbers_medians_and_outliers_are_listed() -> None:
    apart = [-0.5, -0.52, -0.48, -0.51, -0.49, -3.0]
    values: dict[str, list[list[float | None]]] = {
        "raw": [[1.0, 3.0] for _ in apart],
        "curated": [[1.0 + x, 3.0 + x] for x in apart],
    }
    found = named(comparison(rows_of(values, TOXICITY), plan_of()))["toxicity"]

    assert [row["effect"] for row in found["seeds"]] == pytest.approx(apart)
    assert [row["control"] for row in found["seeds"]] == [2.0] * 6
    assert found["median"] == pytest.approx(-0.505)
    assert found["outliers"] == [6]
    assert found["p_t"] == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)


def test_binary_scores_have_mcnemar_and_an_odds_ratio() -> None:
    values: dict[str, list[list[float | None]]] = {
        "raw": [[1.0] * 12 + [0.0] * 8 for _ in SEEDS],
        "curated": [[1.0] * 5 + [0.0] * 14 + [1.0] for _ in SEEDS],
    }
    found = named(comparison(rows_of(values, TOXICITY), plan_of()))["toxicity"]

    expected = {"only_treatment": 1, "only_control": 7, "p": pytest.approx(stats.binomtest(1, 8).pvalue)}
    assert [row["mcnemar"] for row in found["seeds"]] == [expected] * 6
    wilson = stats.binomtest(12, 20).proportion_ci(method="wilson")
    assert found["seeds"][0]["control_rate"] == {"rate": 0.6, "low": wilson.low, "high": wilson.high}
    assert found["sizes"]["odds_ratio"] == pytest.approx((6 / 14) / (12 / 8))
    assert found["sizes"]["risk_difference"] == pytest.approx(-0.3)


def test_no_case_at_all_is_not_a_rate_of_zero() -> None:
    values: dict[str, list[list[float | None]]] = {
        "raw": [[1.0] * 3 + [0.0] * 97 for _ in SEEDS],
        "curated": [[0.0] * 100 for _ in SEEDS],
    }
    found = named(comparison(rows_of(values, TOXICITY), plan_of()))["toxicity"]

    assert "curated: all scores are 0. Of 100 independent items that allows 2.95% to be above 0." in found["notes"]


def test_a_change_of_the_gap_between_stages_is_a_difference_of_differences() -> None:
    before = Metric(TOXICITY, "pretrain", {"raw": 0.0, "curated": -1.0})
    end = {**endpoint("gap", "difference", TOXICITY, "sft", minus_stage="pretrain"), "role": "exploratory"}
    found = named(compared(toxicity(-0.2), before, bits(), endpoints=[*plan_data()["endpoints"], end]))

    assert found["gap"]["effect"] == pytest.approx(0.8, abs=0.15)
    assert (found["gap"]["conclusion"], found["gap"]["role"]) == ("worse", "exploratory")


def test_a_disparity_is_the_gap_on_one_slice_less_that_on_another_over_other_items() -> None:
    first = Metric("bits_per_byte.aae", "sft", {"raw": 0.0, "curated": 0.9}, items=30)
    second = Metric("bits_per_byte.wae", "sft", {"raw": 0.0, "curated": 0.1}, items=50)
    end = {
        **endpoint("disparity", "difference", first.name, "sft", minus_metric=second.name),
        "role": "exploratory",
    }
    found = named(compared(toxicity(-0.5), bits(), first, second, endpoints=[*plan_data()["endpoints"], end]))

    assert found["disparity"]["effect"] == pytest.approx(0.8, abs=0.2)
    assert found["disparity"]["low"] < 0.8 < found["disparity"]["high"]


def effort(curated: list[float | None], raw: list[float | None]) -> dict[str, Any]:
    values: dict[str, list[list[float | None]]] = {"raw": [[v] for v in raw], "curated": [[v] for v in curated]}
    ends = [endpoint("pairs", "superiority", "effort.pairs", "sft", scale="log_ratio"), plan_data()["endpoints"][1]]
    plan = plan_of(endpoints=ends, seeds=list(range(1, len(raw) + 1)))
    return named(comparison(rows_of(values, "effort.pairs", "not_reached"), plan))["pairs"]


def test_an_arm_that_needs_less_effort_is_better_even_where_the_other_never_gets_there() -> None:
    found = effort([100, 200, 100, 200, 100, 200, 100], [400, None, 800, None, 400, 800, None])

    assert (found["conclusion"], found["p"]) == ("better", 2.0**-6)
    assert found["median"] == pytest.approx(math.log(1 / 8))
    assert "never reached in 0 of 7 seeds by curated and in 3 by raw" in found["notes"][0]


def test_an_arm_that_never_gets_there_is_not_taken_for_a_fast_one() -> None:
    found = effort([None, 200, None, 200, None, 200, None], [400] * 7)

    assert found["conclusion"] == "not_resolved"
    assert found["p"] == pytest.approx(stats.binomtest(3, 7).pvalue)


def test_effort_that_always_sufficed_is_compared_by_its_ratio() -> None:
    found = effort([100, 110, 90, 105, 95, 100], [210, 190, 200, 205, 195, 200])

    assert found["effect"] == pytest.approx(math.log(0.5), abs=0.03)
    assert found["conclusion"] == "better"


def test_what_is_explored_is_marked_and_what_matches_nothing_is_listed_untested() -> None:
    extra = Metric("richness.distinct_2", "sft", {"raw": 0.0, "curated": 2.0})
    other = Metric("lambada.accuracy", "sft", {"raw": 0.0, "curated": 2.0})
    found = compared(toxicity(-0.5), bits(), extra, other, explore=[{"metric": "richness.*", "stage": "sft"}])

    explored = named(found)["explore_richness_distinct_2_sft"]
    assert (explored["role"], explored["adjustment"]) == ("exploratory", "Benjamini–Hochberg, exploratory")
    assert found["design"]["not_registered"] == ["lambada.accuracy"]
    assert {row["metric"] for row in found["arms"]} >= {"lambada.accuracy"}
    assert next(row["mean"] for row in found["arms"] if row["metric"] == BITS and row["arm"] == "raw") > 5


def test_judges_agree_by_kendalls_tau_whatever_the_direction_of_their_scales() -> None:
    effects = {"raw": 0.0, "curated": -3.0, "blocklist": -1.0, "sampled": 1.0}
    first = Metric("toxicity.a.mean", "sft", effects)
    second = Metric("kindness.b.mean", "sft", {arm: -x for arm, x in effects.items()}, higher_is_better=True)
    judges = [{"question": "toxicity", "stage": "sft", "metrics": [first.name, second.name]}]
    (found,) = compared(toxicity(-0.5), bits(), first, second, judges=judges)["judges"]

    assert {name: list(means) for name, means in found["best_first"].items()} == {
        name: ["curated", "blocklist", "raw", "sampled"] for name in (first.name, second.name)
    }
    assert found["pairs"] == [
        {"first": first.name, "second": second.name, "tau": 1.0, "p": pytest.approx(2 / 24), "arms": 4}
    ]  # fmt: skip


def test_the_file_holds_the_same_bytes_every_time_and_nothing_json_cannot(tmp_path: Path) -> None:
    run = tmp_path / "run"
    source = write_run(run, [toxicity(-0.5), bits()])
    found = compare_run(run, source)
    first = (run / "compare.json").read_bytes()

    assert list(json.loads(first))[:3] == ["schema_version", "kind", "verdict"]
    assert json.loads(first) == json.loads(json.dumps(found))
    compare_run(run)
    assert (run / "compare.json").read_bytes() == first
    assert found["cost"][0] == {
        "arm": "curated", "stage": "pretrain", "models": 6.0, "steps": 60.0, "tokens_seen": 6000.0, "wall_s": 9.0
    }  # fmt: skip
    assert summary(found).startswith("Supported: ")


def test_a_rate_is_corrected_for_what_is_known_about_its_judge(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rate = Metric("toxicity.ngram.rate", "sft", {"raw": 0.0, "curated": -0.1}, level=0.4, noise=0.01, of_seed=0.001)
    write_run(run, [toxicity(-0.5), bits(), rate])
    card = {"name": "ngram", "family": "linear", "sources": ["x"], "sha256": "0"}
    counts = {"true_positive": 80, "false_negative": 20, "true_negative": 90, "false_positive": 10}
    (run / "judges.json").write_text(json.dumps({"judges": [{**card, "labelled": counts}]}))

    found = {row["arm"]: row for row in compare_run(run)["corrected_rates"]}

    for row in found.values():
        inside = min(max((row["reported"] - 0.1) / 0.7, 0.0), 1.0)
        assert row["corrected"]["rate"] == pytest.approx(inside)
        assert (row["sensitivity"], row["specificity"]) == (0.8, 0.9)
    (run / "judges.json").write_text('{"judges": [{"name": "ngram"}]}')
    with pytest.raises(DataContractError, match="not a list of judges"):
        compare_run(run)


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [])

    with pytest.raises(DataContractError, match="nothing was evaluated"):
        compare_run(tmp_path / "run")
