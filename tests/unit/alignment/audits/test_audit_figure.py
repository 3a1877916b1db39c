"""The figure of a planted preference has both curves, the detection limit, and no number of its own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from scipy import stats

from benchmarks.audit_figure import figure, mean_interval


def found(limit: float | None) -> dict[str, object]:
    models = [
        {"share": share, "seed": seed, "effect": 10 * share + 0.01 * seed, "followed": 2 * share}
        for share in (0.0, 0.01, 0.1)
        for seed in range(3)
    ]
    return {"models": models, "limit": limit}


def test_both_curves_rise_with_the_share_and_the_limit_stands_at_its_place() -> None:
    text = figure(found(0.01))
    root = ElementTree.fromstring(text)
    lines = [one for one in root if one.tag.endswith("polyline")]
    curves = {one.get("stroke"): one.get("points", "") for one in lines if one.get("stroke-dasharray") is None}
    for points in curves.values():
        (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
        assert x1 > x0
        assert y1 < y0  # SVG counts downwards
    (limit,) = [one.get("points", "") for one in lines if one.get("stroke-dasharray") == "6 4"]
    assert {point.split(",")[0] for point in limit.split()} == {curves["#0b57d0"].split()[0].split(",")[0]}
    assert len(curves) == 2
    assert "detection limit 1.0%" in text
    assert len(re.findall("<circle", text)) == 6


def test_without_a_limit_none_is_drawn() -> None:
    assert "detection limit" not in figure(found(None))


def test_the_bars_are_students_interval_of_the_mean() -> None:
    values = [0.1, 0.3, 0.2, 0.5]
    low, high = stats.t.interval(0.95, 3, 0.275, stats.sem(values))
    assert mean_interval(values) == pytest.approx((0.275, low, high))
