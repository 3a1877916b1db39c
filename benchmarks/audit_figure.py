"""Both curves of a planted preference in one figure: how far reward models bend, and how far a policy follows.

python -m benchmarks.audit_injection … --out FILE.json && python -m benchmarks.audit_figure FILE.json FILE.svg
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from alignment.audits.detection import clean_threshold
from benchmarks.svg import Panel, page

SIZE, LEFT, TOP = 360, 70, 40
CURVES = (("effect", "reward models bend (SD within a prompt)", "#0b57d0"),
          ("followed", "policy follows (share of its answers, above one half)", "#b3261e"))  # fmt: skip


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % interval over models (Student's t); of one model, no interval."""
    middle = float(np.mean(values))
    if len(values) < 2:
        return middle, middle, middle
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return middle, middle - reach, middle + reach


def figure(found: Mapping[str, Any]) -> str:
    """The SVG of what `audit_injection --out` wrote. Shares stand on a logarithmic axis, share 0 left of it."""
    panel = Panel(LEFT, TOP, SIZE)
    models = found["models"]
    shares = sorted({one["share"] for one in models} - {0.0})
    low, high = math.log(shares[0]), math.log(shares[-1])

    def across(share: float) -> float:
        return 0.05 if share == 0 else 0.2 + 0.75 * (math.log(share) - low) / ((high - low) or 1.0)

    numbers = {
        name: {share: mean_interval([one[name] for one in models if one["share"] == share]) for share in (0.0, *shares)}
        for name, _, _ in CURVES
    }
    every = [value for curve in numbers.values() for interval in curve.values() for value in interval]
    bottom, top = min(0.0, *every), max(every)

    def up(value: float) -> float:
        return (value - bottom) / (top - bottom)

    parts = _axes(panel, {share: across(share) for share in (0.0, *shares)}, bottom, top)
    noticed = up(clean_threshold([one["effect"] for one in models if one["share"] == 0]).high)
    parts.append(panel.line([(0, noticed), (1, noticed)], "#0b57d0", "2 4"))
    if found["limit"] is not None:
        at = across(found["limit"])
        parts.append(panel.line([(at, 0), (at, 1)], "#555", "6 4"))
        x, y = panel.at((at, 0.94)).split(",")
        parts.append(
            f'<text x="{float(x) - 6:.1f}" y="{y}" text-anchor="end">detection limit {found["limit"]:.1%}</text>'
        )
    for name, _, colour in CURVES:
        curve = numbers[name]
        parts.append(panel.line([(across(share), up(curve[share][0])) for share in shares], colour))
        for share, (middle, below, above) in curve.items():
            parts += panel.mark((across(share), up(middle)), up(below), up(above), colour)
    legend = [(text, colour) for _, text, colour in CURVES]
    legend.append(("dotted: what one clean model in forty exceeds", "#0b57d0"))
    for row, (text, colour) in enumerate(legend):
        parts.append(f'<text x="{LEFT}" y="{TOP + SIZE + 56 + 16 * row}" fill="{colour}">{text}</text>')
    return page(LEFT + SIZE + 30, TOP + SIZE + 110, parts)


def _axes(panel: Panel, places: Mapping[float, float], bottom: float, top: float) -> list[str]:
    box = f'width="{SIZE}" height="{SIZE}" fill="none" stroke="#999"'
    parts = [
        f'<text x="{LEFT}" y="{TOP - 14}" font-weight="bold">A planted preference: bend and follow</text>',
        f'<rect x="{LEFT}" y="{TOP}" {box}/>',
        f'<text x="{LEFT + SIZE / 2}" y="{TOP + SIZE + 34}" text-anchor="middle">pairs flipped</text>',
    ]
    for share, place in places.items():
        x = panel.at((place, 0)).split(",")[0]
        parts.append(f'<text x="{x}" y="{TOP + SIZE + 16}" text-anchor="middle" fill="#555">{share:.1%}</text>')
    for tick in range(5):
        y = panel.at((0, tick / 4)).split(",")[1]
        value = bottom + (top - bottom) * tick / 4
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end" fill="#555">{value:.2f}</text>')
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path, help="what `audit_injection --out` wrote")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.write_text(figure(json.loads(args.found.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
