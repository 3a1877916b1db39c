"""Points of curves that an experiment traces: harm over alignment effort, toxicity over tampering steps, gold over KL.

    RUN/<arm>/<seed>/<stage>/curves.jsonl   one `CurvePoint` a line

Curves are for looking; what is tested is an endpoint of the preregistration. From effort curves comes, for each level
of harm, how much less effort one arm takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from alignment.json_rows import read_rows, write_rows
from alignment.statistics.censored import censored_differences, median, median_interval
from curation.errors import DataContractError, Problem

FILE = "curves.jsonl"
FIELDS = ("arm", "seed", "curve", "x", "x_unit", "metric", "value")
LEVELS = 9  # levels of harm in a table of effort: enough to see a shape, few enough to read


@dataclass(frozen=True)
class CurvePoint:
    """One measurement. `curve` groups what belongs on one plot: effort, tamper, over_optimisation …"""

    arm: str
    seed: int
    curve: str
    x: float  # effort: pairs, steps, nats of KL, seconds
    x_unit: str
    metric: str
    value: float


@dataclass(frozen=True)
class EffortRatio:
    """How much more effort the control takes to bring harm down to `level`."""

    level: float
    treatment: float | None  # median over seeds; None: most seeds never reached it
    control: float | None
    ratio: float | None  # control over treatment, median of paired seeds
    low: float | None
    high: float | None
    reached: tuple[int, int]  # seeds that got there: treatment, control
    seeds: int


def write_curves(path: Path, points: Iterable[CurvePoint]) -> int:
    """Write points; returns how many."""
    return write_rows(path, (asdict(point) for point in points))


def read_curves(run: Path) -> list[CurvePoint]:
    """All points of a run, sorted.

    Raises:
        DataContractError: a line is no point, or a number is not finite.
    """
    points = []
    for path in sorted(run.glob(f"*/*/*/{FILE}")):
        for number, row in enumerate(read_rows(path, FIELDS), 1):
            if not all(isinstance(row[name], int | float) and math.isfinite(row[name]) for name in ("x", "value")):
                raise DataContractError(Problem("bad-row", "`x` and `value` are numbers", f"{path}: line {number}"))
            points.append(CurvePoint(**{name: row[name] for name in FIELDS}))
    return sorted(points, key=lambda p: (p.curve, p.metric, p.arm, p.seed, p.x))


def drawn_lines(points: Sequence[CurvePoint]) -> dict[str, list[list[tuple[float, float, float, float]]]]:
    """arm → its lines of (x, mean over seeds, lowest, highest seed), for points of one curve and metric.

    One line an arm where its seeds were measured at the same x; else one a seed: a mean over seeds that stand at other
    places would be no curve.
    """
    found: dict[str, dict[int, dict[float, float]]] = {}
    for point in points:
        found.setdefault(point.arm, {}).setdefault(point.seed, {})[point.x] = point.value
    out = {}
    for arm, seeds in sorted(found.items()):
        if len({tuple(sorted(line)) for line in seeds.values()}) == 1:
            columns = {x: [line[x] for line in seeds.values()] for x in sorted(next(iter(seeds.values())))}
            out[arm] = [[(x, float(np.mean(values)), min(values), max(values)) for x, values in columns.items()]]
        else:
            out[arm] = [[(x, y, y, y) for x, y in sorted(line.items())] for _, line in sorted(seeds.items())]
    return out


def effort_to_reach(points: Sequence[CurvePoint], level: float) -> float:
    """The least effort at which one model's harm is at most `level`; +inf when none that was tried suffices."""
    return min((point.x for point in points if point.value <= level), default=math.inf)


def still_helpful(points: Sequence[CurvePoint], metric: str, margin: float, higher_is_better: bool) -> list[CurvePoint]:
    """The points whose model is about as helpful as the one it started from: `metric` lost at most `margin`.

    Args:
        points: of one curve and unit, those of `metric` among them; a point without a helpfulness does not count.
    """
    known = {(p.arm, p.seed, p.x): p.value for p in points if p.metric == metric}
    first: dict[tuple[str, int], float] = {}
    for arm, seed, x in sorted(known):
        first.setdefault((arm, seed), known[arm, seed, x])
    sign = 1.0 if higher_is_better else -1.0
    return [
        p
        for p in points
        if (p.arm, p.seed, p.x) in known and sign * (first[p.arm, p.seed] - known[p.arm, p.seed, p.x]) <= margin
    ]


@dataclass(frozen=True)
class Recovery:
    """How soon tampering brings an arm to where the control was before any."""

    arm: str
    effort: float | None  # median over seeds of the least x that does; None: most seeds never got there
    reached: int  # seeds that got there
    seeds: int
    area: float  # mean harm over the curve: the area below it divided by its width, mean over seeds


def recoveries(points: Sequence[CurvePoint], control: str) -> list[Recovery]:
    """Of every arm, the first x at which its harm is at least the control's at the least x, seed by seed.

    Deep Ignorance (O'Brien 2025, arXiv 2508.06601) counts steps until the unfiltered model's level is regained.

    Args:
        points: of one curve, metric and unit in which more is worse.
    """
    lines: dict[str, dict[int, list[CurvePoint]]] = {}
    for point in sorted(points, key=lambda p: p.x):
        lines.setdefault(point.arm, {}).setdefault(point.seed, []).append(point)
    levels = {seed: line[0].value for seed, line in lines.get(control, {}).items()}
    out = []
    for arm, seeds in lines.items():
        both = sorted(set(seeds) & set(levels))
        if not both:
            continue
        least = [min((p.x for p in seeds[s] if p.value >= levels[s]), default=math.inf) for s in both]
        areas = [_mean_height(seeds[s]) for s in both]
        reached = int(np.isfinite(least).sum())
        out.append(Recovery(arm, _finite(median(np.array(least))), reached, len(both), float(np.mean(areas))))
    return out


def _mean_height(line: Sequence[CurvePoint]) -> float:
    width = line[-1].x - line[0].x
    if width == 0:
        return line[0].value
    return sum((b.x - a.x) * (a.value + b.value) / 2 for a, b in pairwise(line)) / width


def effort_ratios(
    points: Sequence[CurvePoint], treatment: str, control: str, confidence: float = 0.95
) -> list[EffortRatio]:
    """Effort of two arms at levels of harm between the least and the most that either shows.

    Args:
        points: of one curve and metric in which less is better.
    """
    arms = {
        arm: {s: [p for p in points if p.arm == arm and p.seed == s] for s in {p.seed for p in points if p.arm == arm}}
        for arm in (treatment, control)
    }
    seeds = sorted(set(arms[treatment]) & set(arms[control]))
    values = [point.value for point in points if point.arm in arms]
    if not seeds or min(values) == max(values):
        return []
    out = []
    for level in np.linspace(min(values), max(values), LEVELS + 2)[1:-1]:
        first, second = (np.array([effort_to_reach(arms[a][s], level) for s in seeds]) for a in (treatment, control))
        # Effort zero (the model is harmless before any) makes every ratio infinite: counted, not divided by.
        apart = -censored_differences(np.maximum(first, 0), np.maximum(second, 0), "log_ratio")
        apart = np.where((first == 0) & (second == 0), 0.0, apart)
        bounds = median_interval(apart, confidence)
        out.append(
            EffortRatio(
                float(level),
                _finite(median(first)),
                _finite(median(second)),
                _ratio(median(apart)),
                _ratio(bounds[0]) if bounds else None,
                _ratio(bounds[1]) if bounds else None,
                (int(np.isfinite(first).sum()), int(np.isfinite(second).sum())),
                len(seeds),
            )
        )
    return out


def _ratio(log: float) -> float | None:
    return math.exp(log) if math.isfinite(log) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
