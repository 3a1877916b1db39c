"""Curves and generations on disk, and how much less effort an arm takes at each level of harm."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from alignment.curves import (
    CurvePoint,
    Recovery,
    drawn_lines,
    effort_ratios,
    effort_to_reach,
    read_curves,
    recoveries,
    still_helpful,
    write_curves,
)
from alignment.generations import Generation, side_by_side, write_generations
from curation.errors import DataContractError


def points(arm: str, seed: int, values: list[float]) -> list[CurvePoint]:
    return [CurvePoint(arm, seed, "effort", 100.0 * 2**at, "pairs", "harm", v) for at, v in enumerate(values)]


def test_curves_come_back_sorted_and_give_effort_at_each_level(tmp_path: Path) -> None:
    every = [
        p
        for s in range(1, 7)
        for p in (*points("raw", s, [0.9, 0.7, 0.5, 0.3]), *points("curated", s, [0.7, 0.5, 0.3, 0.1]))
    ]
    write_curves(tmp_path / "raw" / "1" / "effort" / "curves.jsonl", reversed(every))

    found = read_curves(tmp_path)
    ratios = effort_ratios(found, "curated", "raw")

    assert found == sorted(every, key=lambda p: (p.arm, p.seed, p.x))
    assert drawn_lines(found)["raw"][0][0] == pytest.approx((100.0, 0.9, 0.9, 0.9))
    assert effort_to_reach(points("raw", 1, [0.9, 0.7]), 0.1) == math.inf
    at = {round(row.level, 2): row for row in ratios}
    assert (at[0.5].treatment, at[0.5].control, at[0.5].ratio, at[0.5].low) == (
        200,
        400,
        pytest.approx(2),
        pytest.approx(2),
    )
    assert (at[0.18].control, at[0.18].ratio, at[0.18].reached) == (None, None, (6, 0))


def test_seeds_at_the_same_places_make_one_line_and_others_one_each() -> None:
    first = [CurvePoint("raw", seed, "c", x, "nats", "m", 10.0 * seed + x) for seed in (1, 2) for x in (0.0, 1.0)]
    second = [CurvePoint("raw", seed, "c", x + seed, "nats", "m", x) for seed in (1, 2) for x in (0.0, 1.0)]

    assert drawn_lines(first) == {"raw": [[(0.0, 15.0, 10.0, 20.0), (1.0, 16.0, 11.0, 21.0)]]}
    assert drawn_lines(second) == {
        "raw": [[(1.0, 0.0, 0.0, 0.0), (2.0, 1.0, 1.0, 1.0)], [(2.0, 0.0, 0.0, 0.0), (3.0, 1.0, 1.0, 1.0)]]
    }


def test_a_curve_without_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "1" / "effort" / "curves.jsonl"
    write_curves(path, [CurvePoint("raw", 1, "effort", 1.0, "pairs", "harm", math.nan)])

    with pytest.raises(DataContractError, match="line 1"):
        read_curves(tmp_path)


def test_generations_are_shown_side_by_side_for_prompts_that_all_arms_continued(tmp_path: Path) -> None:
    for arm, seed, items in (("raw", 1, "abc"), ("curated", 1, "bcd"), ("raw", 2, "abc"), ("curated", 2, "abc")):
        rows = [Generation(item, f"prompt {item}", f"{arm} {seed} {item}") for item in items]
        write_generations(tmp_path / arm / str(seed) / "sft" / "generations.jsonl.zst", rows)

    found = side_by_side(tmp_path, ["raw", "curated", "absent"])

    assert list(found) == [(1, "sft")]
    assert {row.item_id: row.texts for row in found[1, "sft"]} == {
        item: {"raw": f"raw 1 {item}", "curated": f"curated 1 {item}"} for item in "bc"
    }


def tampered(arm: str, seed: int, values: list[float]) -> list[CurvePoint]:
    return [
        CurvePoint(arm, seed, "tamper", x, "rows", "harm", v) for x, v in zip((0.0, 10.0, 30.0), values, strict=True)
    ]


def test_an_arm_recovers_when_it_is_as_harmful_as_the_control_was_in_the_same_seed() -> None:
    """By hand: raw stood at 0.4, 0.5 and 0.4; curated is there at 30, never, and at 10."""
    found = recoveries(
        [
            *tampered("raw", 1, [0.4, 0.6, 0.6]), *tampered("raw", 2, [0.5, 0.6, 0.8]),
            *tampered("raw", 3, [0.4, 0.5, 0.6]),
            *tampered("curated", 1, [0.1, 0.3, 0.4]), *tampered("curated", 2, [0.1, 0.2, 0.4]),
            *tampered("curated", 3, [0.2, 0.6, 0.3]), *tampered("curated", 9, [0.9, 0.9, 0.9]),
        ],
        "raw",
    )  # fmt: skip

    assert {row.arm: (row.effort, row.reached, row.seeds) for row in found} == {
        "raw": (0.0, 3, 3), "curated": (30.0, 2, 3),
    }  # fmt: skip
    # Areas of curated: (0.2 * 10 + 0.35 * 20) / 30, (0.15 * 10 + 0.3 * 20) / 30, (0.4 * 10 + 0.45 * 20) / 30.
    assert found[1].area == pytest.approx((9 + 7.5 + 13) / 90)
    never = recoveries([*tampered("raw", 1, [0.9, 0.9, 0.9]), *tampered("curated", 1, [0.1, 0.2, 0.3])], "raw")
    assert never[1] == Recovery("curated", None, 0, 1, pytest.approx((0.15 * 10 + 0.25 * 20) / 30))


def test_an_effort_that_costs_more_helpfulness_than_the_margin_does_not_count() -> None:
    harm = points("raw", 1, [0.9, 0.5, 0.1])
    bits = [
        CurvePoint(p.arm, p.seed, p.curve, p.x, p.x_unit, "bits", v) for p, v in zip(harm, [2.0, 2.1, 2.3], strict=True)
    ]

    kept = still_helpful([*harm, *bits], "bits", 0.15, higher_is_better=False)

    assert [(p.x, p.value) for p in kept if p.metric == "harm"] == [(100.0, 0.9), (200.0, 0.5)]
    assert effort_to_reach([p for p in kept if p.metric == "harm"], 0.2) == math.inf
    assert effort_to_reach(harm, 0.2) == 400.0
    assert len(still_helpful([*harm, *bits], "bits", 0.05, higher_is_better=True)) == 6, "bits rise: better, if more is"
    assert still_helpful(harm, "bits", 1.0, higher_is_better=False) == [], "nothing is known about it"
